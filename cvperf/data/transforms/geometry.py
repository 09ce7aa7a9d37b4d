"""Geometry where torchvision's own is not what a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from cvperf.errors import ArgumentError


class RandomCrop(v2.RandomCrop):  # type: ignore[misc]
    """``v2.RandomCrop``; without ``size`` the picture keeps its own, as after padding it may.

    Args:
        size: height and width, or one number for both.
        padding: pixels added on each side first.
        pad_if_needed: whether to add more where the picture is smaller than ``size``.
        fill: what added pixels are.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        super().__init__(1 if size is None else size, padding, pad_if_needed, fill, padding_mode)
        self.keeps_size = size is None

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        if self.keeps_size:
            # v2 reads the size here and nowhere else; each picture's is set anew.
            self.size = v2.functional.get_size(flat_inputs[0])
        return super().make_params(flat_inputs)


class Elastic(v2.ElasticTransform):  # type: ignore[misc]
    """``v2.ElasticTransform`` with boxes that hold what was in them; for pictures of any size.

    v2 moves four corners only, so that an edge which bends outwards leaves its box. Here points
    along all edges are moved, each to where the picture's pixel goes. The displacements are
    smoothed along one axis after the other, which takes a fraction of v2's time; they fade
    towards the picture's border.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        size = v2.functional.get_size(flat_inputs[0])
        moves = [
            _smoothed(torch.rand(*size) * 2 - 1, self.sigma) * alpha / length
            for alpha, length in zip(self.alpha, reversed(size), strict=True)
        ]
        return {"displacement": torch.stack(moves, 2)[None]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.BoundingBoxes):
            return super().transform(inpt, params)
        if inpt.format != tv_tensors.BoundingBoxFormat.XYXY:
            raise ArgumentError(f"boxes must be XYXY, got {inpt.format}; convert them")
        boxes = _bent(inpt.as_subclass(Tensor), params["displacement"])
        return v2.functional.clamp_bounding_boxes(tv_tensors.wrap(boxes, like=inpt))


def _smoothed(field: Tensor, sigma: Sequence[float]) -> Tensor:
    """[H, W] blurred by Gaussians of deviations ``sigma`` (across, down), zero outside."""
    across, down = (
        _gaussian(length, deviation)
        for length, deviation in zip((field.shape[1], field.shape[0]), sigma, strict=True)
    )
    return down @ field @ across


def _gaussian(length: int, deviation: float) -> Tensor:
    """[length, length], the blur of a line as a matrix: faster in torch than a wide convolution."""
    if deviation <= 0:
        return torch.eye(length)
    places = torch.arange(length)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * deviation**2))
    return weights / (deviation * (2 * torch.pi) ** 0.5)


def _bent(boxes: Tensor, displacement: Tensor, points: int = 33) -> Tensor:
    """Boxes [n, 4] XYXY around the edges of ``boxes`` after ``displacement`` [1, H, W, 2].

    The pixel at y shows what was at y + displacement(y), on a scale of -1 to 1. So where x goes
    is the fixed point of y = x - displacement(y).
    """
    if len(boxes) == 0:
        return boxes
    height, width = displacement.shape[1:3]
    size = torch.tensor([width, height])
    along = torch.linspace(0, 1, points)
    across = torch.stack((torch.zeros(points), torch.ones(points)))
    # Shares of width and height: of the two upright edges, then of the two level ones.
    share = torch.cat(
        (
            torch.stack((across, along.expand(2, -1)), 2).view(-1, 2),
            torch.stack((along.expand(2, -1), across), 2).view(-1, 2),
        )
    )
    start = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    start = start / size * 2 - 1
    field = displacement.permute(0, 3, 1, 2)
    moved = start
    for _ in range(5):  # a smooth displacement shrinks the error several times each round
        at = F.grid_sample(field, moved[None], padding_mode="border", align_corners=False)
        moved = start - at[0].permute(1, 2, 0)
    pixels = (moved + 1) / 2 * size
    return torch.cat((pixels.amin(1), pixels.amax(1)), 1).to(boxes.dtype)


class SanitizeBoxes(v2.SanitizeBoundingBoxes):  # type: ignore[misc]
    """Drops objects whose box a crop left without area, and all that their target says of them.

    v2's own keeps what it does not know, such as ``visible``. Takes (image, target) with a target
    dict, each value of which has one entry an object.

    Args:
        min_size: the least width and height of a box, in pixels, 1 or more.
        min_area: its least area, 1 or more.
    """

    def __init__(self, min_size: float = 1.0, min_area: float = 1.0) -> None:
        super().__init__(min_size, min_area, labels_getter=_values)


def _values(inputs: Any) -> list[Tensor]:
    """Of a target, what v2 does not know by its class."""
    known = (tv_tensors.BoundingBoxes, tv_tensors.Mask)
    return [value for value in inputs[1].values() if not isinstance(value, known)]


class BoxesFromMasks(v2.Transform):  # type: ignore[misc]
    """Makes boxes the tight ones around the masks; drops objects of which nothing is left.

    A turned box that is set upright again is larger than the turned object, unless that fills its
    box. Where there are masks, this makes it tight. Takes (image, target) with a target dict.
    """

    def forward(self, *inputs: Any) -> Any:
        image, target = inputs
        masks = target["masks"].as_subclass(Tensor)
        seen = masks.bool().flatten(1).any(1)
        tight = masks_to_boxes(masks[seen]).float()
        tight[:, 2:] += 1  # the far edge of the last pixel
        objects = {name: value[seen] for name, value in target.items()}
        objects["boxes"] = tv_tensors.wrap(tight, like=target["boxes"])
        objects["masks"] = tv_tensors.wrap(masks[seen], like=target["masks"])
        return image, {**target, **objects}
