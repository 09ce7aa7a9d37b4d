"""The images of a recipe: to train on, to validate on after each epoch, to test on in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from cvperf import data as datasets
from cvperf.data import Augmented, ImageSet, transforms
from cvperf.data.imbalance import How
from cvperf.data.sets.splits import divide
from cvperf.errors import ArgumentError
from cvperf.train.recipe import Change, Data


@dataclass(frozen=True)
class Sets:
    """Each prepared alike (``data.prepare``); ``train`` augmented besides, ``plain`` not."""

    train: Augmented
    plain: ImageSet
    validation: ImageSet
    test: ImageSet | None


def load(config: Data, seed: int) -> Sets:
    """The sets of a recipe's section ``data``.

    Args:
        config: the section.
        seed: of augmentation and the bootstrap sample; the rest goes by ``data.split_seed``.

    Raises:
        ArgumentError: the set does not exist or lacks a split, its images have no labels, or there
            are no test images to shift.
    """
    if config.shift and not config.test:
        raise ArgumentError("data.shift changes test images, and data.test names none")

    def split(name: str) -> ImageSet:
        return datasets.load(config.name, name, **config.options)

    once = config.split_seed
    train = split("train")
    if config.holdout:
        labels = labels_of(train)
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
    shift = transforms.build([*config.shift, *config.prepare]) if config.shift else prepare
    return Sets(
        Augmented(train, augment, seed),
        Augmented(train, prepare, seed),
        Augmented(validation, prepare, seed),
        Augmented(split(config.test), shift, once) if config.test else None,
    )


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
        raise ArgumentError("the data set has no label an image")
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
