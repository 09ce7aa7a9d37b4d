"""Domain adaptation: a model also sees images of another domain, whose labels it is not told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.data import Augmented, collate
from cvperf.errors import ArgumentError
from cvperf.train.recipe import Adapt


@dataclass(frozen=True)
class Domain:
    """The other domain, and how the model is fitted to it.

    Attributes:
        images: its training images; labels are passed over.
        config: the recipe's section.
    """

    images: Augmented
    config: Adapt

    def draw(self, like: Tensor) -> Tensor:
        """As many images as a batch has, by chance, on its device: uint8 [N, C, H, W].

        Which ones, and how each is augmented, comes from torch's generator, which the loop seeds
        by (seed, step): a run that is resumed draws the same.

        Args:
            like: the batch [N, C, H, W] that they are to stand beside.

        Raises:
            ArgumentError: they have another shape.
        """
        chosen = torch.randint(len(self.images), (len(like),)).tolist()
        self.images.set_epoch(int(torch.randint(2**31, ())))
        drawn = collate(self.images.__getitems__(chosen)).images
        if drawn.shape[1:] != like.shape[1:]:
            raise ArgumentError(
                f"images of adapt.name={self.config.name!r} are {list(drawn.shape[1:])}, those to "
                f"train on {list(like.shape[1:])} as [C, H, W]: make them alike in data.prepare "
                "(resize, rgb, grayscale)"
            )
        return drawn.to(like.device)

    def fitted(self, loss: Tensor, logits: Tensor, foreign: Tensor) -> Tensor:
        """``loss + weight * distance``.

        Args:
            loss: of the images with labels, float [].
            logits: the model's for these, float [N, classes].
            foreign: for images of this domain, float [N, classes].

        Raises:
            ArgumentError: the method is unknown.
        """
        if self.config.method not in _METHODS:
            known = ", ".join(_METHODS)
            raise ArgumentError(f"unknown adapt.method {self.config.method!r}; known: {known}")
        return loss + self.config.weight * _METHODS[self.config.method](logits, foreign)


def coral(logits: Tensor, foreign: Tensor) -> Tensor:
    """How far apart the covariances of both domains' logits are, float [].

    Source: Sun and Saenko, "Deep CORAL", ECCV 2016 workshops, equation 1.
    """
    apart = torch.cov(logits.float().T) - torch.cov(foreign.float().T)
    return apart.square().sum() / (4 * logits.shape[1] ** 2)


def information(logits: Tensor, foreign: Tensor) -> Tensor:
    """Small where each foreign image gets one class for sure, and all classes are given, float [].

    The entropy of an image's answer, less that of the mean answer, which keeps the model from
    giving all of them one class.

    Source: Liang et al., "Do We Really Need to Access the Source Data?" (SHOT), ICML 2020,
    equations 2 and 3.
    """
    logs = foreign.float().log_softmax(1)
    mean = logs.exp().mean(0)
    return (mean * mean.clamp_min(1e-12).log()).sum() - (logs.exp() * logs).sum(1).mean()


_METHODS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "coral": coral,
    "information": information,
}
