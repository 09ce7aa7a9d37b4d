"""Data sets held in memory, data sets of image files, and parts of either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvperf.data.images import Color, UnreadableImageError, read_image
from cvperf.data.samples import Broken, ImageSet
from cvperf.errors import ArgumentError, describe

Policy = Literal["skip", "raise"]
"""What a broken image does: become :class:`~cvperf.data.Broken`, or end the run."""


class InMemory(Dataset[Any]):
    """Images and labels as tensors; no file is read once it is made.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N], float32 [N, classes] or float32 [N].
        classes: names of the classes.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
        if images.dtype != torch.uint8 or images.dim() != 4 or len(images) != len(labels):
            raise ArgumentError(
                "images must be uint8 [N, C, H, W] with a label each, got "
                f"{describe(images)} and labels {describe(labels)}"
            )
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        from torchvision import tv_tensors

        return tv_tensors.Image(self.images[index]), as_target(self.labels[index])


class ImageFiles(Dataset[Any]):
    """Images read when asked for, each with a label.

    Args:
        paths: the files.
        labels: int64 [N], float32 [N, classes] or float32 [N].
        classes: names of the classes.
        color: ``"RGB"`` or ``"L"``.
        broken: ``"skip"`` makes a sample whose image cannot be read :class:`Broken`;
            ``"raise"`` raises :class:`UnreadableImageError`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Tensor,
        classes: Sequence[str],
        *,
        color: Color = "RGB",
        broken: Policy = "skip",
    ) -> None:
        check_policy(broken)
        self.paths = [str(path) for path in paths]
        self.labels = labels
        self.classes = tuple(classes)
        self.color: Color = color
        self.broken: Policy = broken

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        try:
            image = read_image(self.paths[index], self.color)
        except UnreadableImageError as error:
            return broken_sample(error, self.broken)
        return image, as_target(self.labels[index])


class Part(Dataset[Any]):
    """Some samples of a data set, in the order of ``indices``, each as often as it stands there."""

    def __init__(self, dataset: ImageSet, indices: Tensor) -> None:
        self.dataset = dataset
        self.indices = indices
        self.classes = dataset.classes
        self.labels = None if dataset.labels is None else dataset.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


class Relabelled(Dataset[Any]):
    """A data set with other labels."""

    def __init__(self, dataset: ImageSet, labels: Tensor) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self.labels = labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        return sample if isinstance(sample, Broken) else (sample[0], as_target(self.labels[index]))


def select(dataset: ImageSet, indices: Tensor) -> ImageSet:
    """The samples ``indices`` (int64 [n]) of a data set; of one in memory, again one in memory."""
    if isinstance(dataset, InMemory):
        return InMemory(dataset.images[indices], dataset.labels[indices], dataset.classes)
    return Part(dataset, indices)


def as_target(label: Tensor) -> Any:
    """A row of ``labels`` as the target of a sample."""
    return label if label.dim() else label.item()


def broken_sample(error: UnreadableImageError, policy: Policy) -> Broken:
    """The sample in place of an image that cannot be read, unless ``policy`` is to raise."""
    if policy == "raise":
        raise error
    return Broken(error.path, error.reason)


def check_policy(broken: str) -> None:
    if broken not in ("skip", "raise"):
        raise ArgumentError(f'broken must be "skip" or "raise", got {describe(broken)}')
