"""What data sets give, and how samples become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, describe


class Broken(NamedTuple):
    """Stands in a data set where an image could not be read."""

    path: str
    reason: str


class ImageSet(Protocol):
    """A data set of images: the interface that all of cvperf's have.

    ``set[i]`` is (image, target) or :class:`Broken`. The image is a
    ``torchvision.tv_tensors.Image``, uint8 [C, H, W]; the target is an int (a class), float32
    [classes] of 0 and 1 (several classes), a float (regression) or, for detection, a dict:
    ``boxes`` as ``tv_tensors.BoundingBoxes`` [n, 4] in XYXY pixels, ``labels`` int64 [n], and
    ``masks`` as ``tv_tensors.Mask`` uint8 [n, H, W] if there are any.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names; empty for regression."""

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], float32 [N, classes] or float32 [N] in the order of the samples, known without
        reading an image; ``None`` for detection."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Batch(NamedTuple):
    """Samples put together."""

    images: Any
    """[n, C, H, W]; [0, 0, 0, 0] where every sample was broken. For detection a list of [C, H, W]
    where they have several sizes."""
    targets: Any
    """int64 [n], float32 [n, classes], float32 [n], or a list of n dicts."""
    broken: list[Broken]
    """Left out of the other two."""

    def parts(self, count: int) -> list[Batch]:
        """The batch cut into ``count`` of about the same size; fewer where it has fewer images.

        Those that are broken are in none.
        """
        length = len(self.images)
        cuts = [length * part // count for part in range(count + 1)]
        return [
            Batch(self.images[first:end], self.targets[first:end], [])
            for first, end in pairwise(cuts)
            if first < end
        ]


def collate(samples: Sequence[Any] | Batch) -> Batch:
    """Put samples together, unless they are; for ``DataLoader(..., collate_fn=collate)``.

    Raises:
        ArgumentError: the images have several sizes, and their targets are no dicts: networks that
            classify take a batch of one size only.
    """
    if isinstance(samples, Batch):
        return samples
    broken = [sample for sample in samples if isinstance(sample, Broken)]
    sound = [sample for sample in samples if not isinstance(sample, Broken)]
    if not sound:
        return Batch(torch.empty(0, 0, 0, 0), torch.empty(0, dtype=torch.int64), broken)
    images, targets = zip(*sound, strict=True)
    plain = [image.as_subclass(Tensor) for image in images]
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1 and isinstance(targets[0], dict):
        return Batch(plain, list(targets), broken)
    if len(shapes) > 1:
        raise ArgumentError(
            f"the images of a batch must have one shape [C, H, W], got {list(map(list, shapes))}. "
            "End the transforms with one that makes it so: resize, center_crop or "
            "random_resized_crop with a size"
        )
    return Batch(torch.stack(plain), _together(targets), broken)


def _together(targets: Sequence[Any]) -> Any:
    first = targets[0]
    if isinstance(first, dict):
        return list(targets)
    if isinstance(first, Tensor):
        return torch.stack(list(targets))
    if isinstance(first, int):
        return torch.tensor(targets, dtype=torch.int64)
    if isinstance(first, float):
        return torch.tensor(targets, dtype=torch.float32)
    raise ArgumentError(
        f"a target must be an int, a float, a tensor or a dict, got {describe(first)}"
    )
