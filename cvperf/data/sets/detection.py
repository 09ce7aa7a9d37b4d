"""Image files with boxes, and masks if there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvperf.data.images import Color, UnreadableImageError, read_image
from cvperf.data.sets.base import Policy, broken_sample, check_policy


@dataclass(frozen=True)
class Annotated:
    """What is known of one image."""

    path: Path
    boxes: Tensor
    """float32 [n, 4], XYXY in pixels."""
    labels: Tensor
    """int64 [n]."""
    size: tuple[int, int] | None = None
    """(height, width) that the annotations were made on, if they say so."""
    masks: Callable[[], Tensor] | None = None
    """Makes uint8 [n, height, width]; only when asked, for they are large."""


class DetectionFiles(Dataset[Any]):
    """Images read when asked for; targets are dicts of ``boxes``, ``labels`` and maybe ``masks``.

    Args:
        images: what is known of each.
        classes: names of the classes; ``labels`` count from 0 (no number is kept for background).
        color: ``"RGB"`` or ``"L"``.
        broken: as in :class:`~cvperf.data.sets.base.ImageFiles`. An image whose size is not that
            of its annotations is broken too.
    """

    labels = None

    def __init__(
        self,
        images: Sequence[Annotated],
        classes: Sequence[str],
        *,
        color: Color = "RGB",
        broken: Policy = "skip",
    ) -> None:
        check_policy(broken)
        self.images = list(images)
        self.classes = tuple(classes)
        self.color: Color = color
        self.broken: Policy = broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        known = self.images[index]
        try:
            image = read_image(known.path, self.color, size=known.size)
        except UnreadableImageError as error:
            return broken_sample(error, self.broken)
        masks = None if known.masks is None else known.masks()
        return image, detection_target(image, known.boxes, known.labels, masks)


def detection_target(
    image: Tensor, boxes: Tensor, labels: Tensor, masks: Tensor | None = None
) -> dict[str, Tensor]:
    """The target of one image, in tensors that torchvision's transforms carry along."""
    from torchvision import tv_tensors

    size = (image.shape[-2], image.shape[-1])
    boxes = tv_tensors.BoundingBoxes(boxes.clone(), format="XYXY", canvas_size=size)
    target = {"boxes": boxes, "labels": labels.clone()}
    if masks is not None:
        target["masks"] = tv_tensors.Mask(masks)
    return target


def from_xywh(boxes: Sequence[Sequence[float]]) -> Tensor:
    """float32 [n, 4] XYXY of boxes given as left, top, width and height."""
    tensor = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    tensor[:, 2:] += tensor[:, :2]
    return tensor.float()
