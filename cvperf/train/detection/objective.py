"""What a step of a detector makes smaller: its own losses, each times a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.errors import ArgumentError, did_you_mean
from cvperf.train.detection.labels import to_floats, to_model

Images = Tensor | Sequence[Tensor]
Targets = Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True)
class DetectorLosses:
    """The losses that a detector in training mode answers with.

    Attributes:
        weights: by what a loss is multiplied; 1 where it is not named.
        sizes: the shorter side of a batch's images, one of these by chance; empty: the model's own.
        augment: of whole batches, (images, targets) to (images, targets), one draw a batch.
    """

    weights: Mapping[str, float]
    sizes: Sequence[int] = ()
    augment: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def __call__(self, model: nn.Module, images: Images, targets: Targets) -> dict[str, Tensor]:
        if self.augment is not None:
            images, targets = self.augment(*_marked(images, targets))
        with at_size(model, self._drawn()):
            losses = model(to_floats(images), to_model(targets))
        for name in self.weights:
            if name not in losses:
                known = ", ".join(losses)
                hint = did_you_mean(name, losses) or "."
                raise ArgumentError(f"the model has no loss.weights {name!r}{hint} Known: {known}")
        return {name: loss * self.weights.get(name, 1.0) for name, loss in losses.items()}

    def _drawn(self) -> int | None:
        return self.sizes[int(torch.randint(len(self.sizes), ()))] if self.sizes else None


@contextmanager
def at_size(model: nn.Module, size: int | None) -> Iterator[None]:
    """A block in which a detector resizes images to another size.

    Args:
        model: with a ``Resize`` of ``cvperf.models.detection`` in it.
        size: pixels of the shorter side, or of both where the model stretches images to a square;
            None: the model's own.

    Raises:
        ArgumentError: the model has no ``Resize``.
    """
    if size is None:
        yield
        return
    from cvperf.models.detection.transform import Resize

    resize = next((module for module in model.modules() if isinstance(module, Resize)), None)
    if resize is None:
        raise ArgumentError(f"detection.sizes needs a model that resizes, {type(model)} does not")
    before = resize.min_size, resize.fixed_size
    resize.min_size = size
    resize.fixed_size = None if before[1] is None else (size, size)
    try:
        yield
    finally:
        resize.min_size, resize.fixed_size = before


def _marked(images: Images, targets: Targets) -> tuple[Any, Any]:
    """Tensors that say what they are, which a loader may have made plain.

    Raises:
        ArgumentError: the images have several sizes.
    """
    from torchvision import tv_tensors

    if not isinstance(images, Tensor):
        raise ArgumentError("data.augment_batch needs images of one size: end data.prepare so")
    size = (images.shape[-2], images.shape[-1])
    marked = []
    for target in targets:
        boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=size)
        masks = {"masks": tv_tensors.Mask(target["masks"])} if "masks" in target else {}
        marked.append({**target, "boxes": boxes, **masks})
    return tv_tensors.Image(images), marked
