"""What a step makes smaller: images to floats, mixed with others if asked, through the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cvperf import ops
from cvperf.train.adapt import Domain
from cvperf.train.distil import Teacher
from cvperf.train.losses import Criterion
from cvperf.train.recipe import Loss, Recipe

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Normalize:
    """uint8 [N, C, H, W] to float32, ``(x / 255 - mean) / std``; float images pass as they are."""

    mean: list[float]
    std: list[float]
    channels_last: bool

    def __call__(self, images: Tensor) -> Tensor:
        format = torch.channels_last if self.channels_last else torch.contiguous_format
        if images.dtype != torch.uint8:
            return images.contiguous(memory_format=format)
        channels = images.shape[1]
        mean, std = (
            values * channels if len(values) == 1 else values for values in (self.mean, self.std)
        )
        return ops.normalize_image(images, mean, std, memory_format=format)


def normalize_of(recipe: Recipe) -> Normalize:
    """Pixels to what the network of a recipe takes."""
    data = recipe.data
    return Normalize(list(data.mean), list(data.std), recipe.model.channels_last)


@dataclass(frozen=True)
class Supervised:
    """The loss of the model's answers on normalised, perhaps mixed images.

    Attributes:
        normalize: pixels to what the model takes.
        criterion: of logits and targets.
        mix: of images with others.
        adjustment: float [classes], added to the logits; see ``loss.adjust``.
        teacher: whose answers count too.
        augment: of whole batches of pixels.
        domain: another one, whose images go through the model beside these.
    """

    normalize: Normalize
    criterion: Criterion
    mix: Mix | None = None
    adjustment: Tensor | None = None
    teacher: Teacher | None = None
    augment: Callable[[Tensor], Tensor] | None = None
    domain: Domain | None = None

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        seen = self._seen(images)
        if self.mix is not None and len(seen) > 1:
            seen, targets = self.mix(seen, targets)
        if self.domain is None:
            return {"loss": self._loss(seen, model(seen), targets)}
        # In one batch with the domain's images, so that norms see both.
        foreign = self._seen(self.domain.draw(images))
        logits, answers = model(torch.cat([seen, foreign])).tensor_split(2)
        loss = self._loss(seen, logits, targets)
        return {"loss": self.domain.fitted(loss, logits, answers)}

    def _loss(self, images: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
        adjusted = logits if self.adjustment is None else logits + self.adjustment.to(logits)
        loss = self.criterion(adjusted, targets)
        return loss if self.teacher is None else self.teacher.taught(loss, logits, images)

    def _seen(self, images: Tensor) -> Tensor:
        return self.normalize(images if self.augment is None else self.augment(images))


def mix(loss: Loss, classes: int) -> Mix | None:
    """Mixup (Zhang et al., ICLR 2018), CutMix (Yun et al., ICCV 2019), or one of them by chance."""
    from torchvision.transforms import v2

    kinds = []
    if loss.mixup:
        kinds.append(v2.MixUp(alpha=loss.mixup, num_classes=classes))
    if loss.cutmix:
        kinds.append(v2.CutMix(alpha=loss.cutmix, num_classes=classes))
    if not kinds:
        return None
    return kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)
