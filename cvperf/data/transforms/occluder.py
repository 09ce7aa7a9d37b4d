"""Things in front of the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cvperf.data.images import EXTENSIONS, read_image
from cvperf.data.transforms.base import PixelTransform, check_range
from cvperf.errors import ArgumentError


class RandomOccluder(PixelTransform):
    """Pastes a patch over a random place of the picture.

    What it covers is gone from instance masks, which are of what is seen; boxes and labels stay,
    for the object is still there. Without ``folder`` the patch is a piece of the picture itself,
    from another place and mirrored, so that its texture and light are those of the scene.

    Args:
        area: share of the picture that is covered, a number or [least, most].
        count: how many patches; their areas together are ``area``.
        shape: ``"ellipse"`` or ``"rectangle"``.
        folder: where photos to cut patches from lie; sub-folders count. They are read now and
            kept, at most 256 pixels wide and high.
        p: probability.
    """

    _transformed_types = (*PixelTransform._transformed_types, tv_tensors.Mask)

    def __init__(
        self,
        area: float | tuple[float, float] = (0.05, 0.3),
        count: int = 1,
        shape: str = "ellipse",
        folder: str | None = None,
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        self.area = check_range("area", area, 0, 1)
        check_range("count", count, 1, 100)
        if shape not in ("ellipse", "rectangle"):
            raise ArgumentError(f'shape must be "ellipse" or "rectangle", got {shape!r}')
        self.count = int(count)
        self.shape = shape
        self.folder = folder
        self.photos = [] if folder is None else _photos(Path(folder))

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        covered = torch.zeros(height, width, dtype=torch.bool)
        share = float(torch.empty(()).uniform_(*self.area)) / self.count
        for _ in range(self.count):
            covered |= self._patch(height, width, share)
        photo = int(torch.randint(len(self.photos), ())) if self.photos else None
        return {"covered": covered, "photo": photo, "shift": torch.rand(2)}

    def _patch(self, height: int, width: int, share: float) -> Tensor:
        """bool [height, width], about ``share`` of it true, all of it inside."""
        aspect = float(torch.empty(()).uniform_(-0.7, 0.7).exp())
        # An ellipse has pi / 4 of the area of the rectangle around it.
        box = share * height * width / (0.7854 if self.shape == "ellipse" else 1.0)
        tall = min((box * aspect) ** 0.5, float(height))
        wide = min(box / max(tall, 1e-6), float(width))
        tall = min(box / max(wide, 1e-6), float(height))  # what was cut off is added elsewhere
        top, left = torch.rand(2).tolist()
        y = (torch.arange(height) + 0.5 - top * (height - tall) - tall / 2).abs() / (
            tall / 2 + 1e-9
        )
        x = (torch.arange(width) + 0.5 - left * (width - wide) - wide / 2).abs() / (wide / 2 + 1e-9)
        if self.shape == "rectangle":
            return (y[:, None] <= 1) & (x[None] <= 1)
        return y[:, None] ** 2 + x[None] ** 2 <= 1

    def change(self, image: Tensor, *, covered: Tensor, photo: int | None, shift: Tensor) -> Tensor:  # type: ignore[override]
        if photo is not None:
            color = self.photos[photo]
            patch = color if image.shape[0] == 3 else functional.rgb_to_grayscale(color)
            patch = functional.resize(patch, list(image.shape[-2:]), antialias=True)
        else:
            # A quarter to three quarters of the picture away, so that it is never the same place.
            height, width = image.shape[-2:]
            rows, columns = (
                _mirrored(length, round((float(share) / 2 + 0.25) * length))
                for length, share in zip((height, width), shift, strict=True)
            )
            patch = image.flip(-1)[:, rows[:, None], columns]
        return torch.where(covered, patch, image)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Mask) or params["drawn"] is None:
            return super().transform(inpt, params)
        covered = params["drawn"]["covered"]
        return tv_tensors.wrap(inpt.as_subclass(Tensor).masked_fill(covered, 0), like=inpt)


def _mirrored(length: int, shift: int) -> Tensor:
    """int64 [length]: places ``shift`` further on, turning back at the end, so without a seam."""
    places = (torch.arange(length) + shift) % (2 * length)
    return torch.minimum(places, 2 * length - 1 - places)


def _photos(folder: Path) -> list[Tensor]:
    """uint8 [3, H, W] each; one that is broken raises here, not in the middle of a run."""
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(EXTENSIONS))
    if not files:
        raise ArgumentError(f"folder must hold photos to cut patches from, got {folder}")
    shrink = v2.Resize(None, max_size=256)
    return [shrink(read_image(path)).as_subclass(Tensor) for path in files]
