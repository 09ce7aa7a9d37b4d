"""Between data sets, whose classes count from 0, and detectors, for which 0 is the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_KNOWN = ("boxes", "labels", "masks", "visible")


def to_model(targets: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Targets of a data set as a detector takes them: plain tensors, labels from 1."""
    known = [{name: one[name] for name in _KNOWN if name in one} for one in targets]
    plain = [{name: value.as_subclass(Tensor) for name, value in one.items()} for one in known]
    return [{**one, "labels": one["labels"] + 1} for one in plain]


def from_model(detections: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """A detector's answers with labels from 0."""
    return [{**one, "labels": one["labels"] - 1} for one in detections]


def to_floats(images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """uint8 [N, C, H, W], or [C, H, W] each, as float32 of 0 to 1; floats stay as they are."""
    if isinstance(images, Tensor):
        return images / 255 if images.dtype == torch.uint8 else images
    return [image / 255 if image.dtype == torch.uint8 else image for image in images]
