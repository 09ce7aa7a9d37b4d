"""The images of a recipe: to train on, to validate on after each epoch, to test on in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from cvperf import data as datasets
from cvperf.data import Augmented, ImageSet, transforms
from cvperf.data.imbalance import How
from cvperf.data.sets.splits import divide
from cvperf.errors import ArgumentError
from cvperf.train.recipe import Adapt, Change, Data


@dataclass(frozen=True)
class Sets:
    """Each prepared alike (``data.prepare``); ``train`` augmented besides, ``plain`` not."""

    train: Augmented
    plain: ImageSet
    validation: ImageSet
    test: ImageSet | None
    foreign: Augmented | None = None
    """Training images of the domain to adapt to, augmented."""


def load(config: Data, seed: int, adapt: Adapt | None = None) -> Sets:
    """The sets of a recipe's sections ``data`` and ``adapt``.

    Args:
        config: the section ``data``.
        seed: of augmentation and the bootstrap sample; the rest goes by ``data.split_seed``.
        adapt: the section ``adapt``; where it names a set, ``test`` is of that one.

    Raises:
        ArgumentError: a set does not exist or lacks a split, its images have no labels, the two
            have other classes, or there are no test images to shift.
    """
    if config.shift and not config.test:
        raise ArgumentError("data.shift changes test images, and data.test names none")

    def split(name: str) -> ImageSet:
        return datasets.load(config.name, name, **config.options)

    once = config.split_seed
    train = split("train")
    if config.holdout:
        # Of detection, without a label an image, any image is as good as another.
        labels = torch.zeros(len(train)) if train.labels is None else train.labels
        held = {
            name: datasets.select(train, divide(labels, name, validation=config.holdout, seed=once))
            for name in ("train", "validation")
        }
        train, validation = held["train"], held["validation"]
    else:
        validation = split("validation")
    train = _changed(train, config.change, once, seed)
    if config.limit:
        train = datasets.select(train, _some(len(train), config.limit, once))
    prepare = transforms.build(config.prepare) if config.prepare else None
    augment = transforms.build([*config.augment, *config.prepare]) if config.augment else prepare
    own = Sets(
        Augmented(train, augment, seed),
        Augmented(train, prepare, seed),
        Augmented(validation, prepare, seed),
        None,
    )
    if adapt is not None and adapt.name:
        return _adapted(own, config, adapt, seed)
    if not config.test:
        return own
    test = split(config.test)
    if config.test_limit:
        test = datasets.select(test, _some(len(test), config.test_limit, once))
    shift = transforms.build([*config.shift, *config.prepare]) if config.shift else prepare
    return replace(own, test=Augmented(test, shift, once))


def _adapted(own: Sets, config: Data, adapt: Adapt, seed: int) -> Sets:
    """The sets, with a domain to fit to and to test on."""

    def split(name: str, change: Sequence[Any], seed: int) -> Augmented:
        images = datasets.load(adapt.name, name, **adapt.options)
        if images.classes != own.train.classes:
            raise ArgumentError(
                f"adapt.name={adapt.name!r} has other classes than data.name={config.name!r}: "
                f"{', '.join(images.classes)}; not {', '.join(own.train.classes)}"
            )
        steps = [*adapt.look, *change, *config.prepare]
        return Augmented(images, transforms.build(steps) if steps else None, seed)

    test = split(config.test, config.shift, config.split_seed) if config.test else None
    return replace(own, test=test, foreign=split("train", config.augment, seed))


def _changed(images: ImageSet, change: Change, once: int, seed: int) -> ImageSet:
    if change.imbalance != 1:
        images = datasets.imbalanced(images, change.imbalance, once, change.minority or None)
    if change.per_class:
        images = datasets.per_class(images, change.per_class, once)
    if change.label_noise:
        images = datasets.noisy_labels(images, change.label_noise, once)
    if change.outliers:
        images = datasets.outliers(images, change.outliers, change.outlier_distance, once)
    if change.bootstrap:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(images), (len(images),), generator=generator)
        images = datasets.select(images, drawn.sort().values)
    if change.resample:
        images = datasets.resample(images, cast(How, change.resample), once)
    return images


def labels_of(images: ImageSet) -> Tensor:
    """int64 [N], float32 [N, classes] or float32 [N].

    Raises:
        ArgumentError: the set has none an image.
    """
    if images.labels is None:
        raise ArgumentError("the data set has no label an image; to train on boxes: task=detection")
    return images.labels


def channels(images: ImageSet) -> int:
    """How many the images have, by the first that can be read.

    Raises:
        ArgumentError: there is none.
    """
    for index in range(len(images)):
        sample = images[index]
        if not isinstance(sample, datasets.Broken):
            return int(sample[0].shape[0])
    raise ArgumentError("the data set has no image that can be read")


def _some(length: int, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(length, generator=generator)[:count].sort().values
