"""Data sets with few samples of some classes, few in all, or wrong labels; and remedies."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cvperf.data.samples import ImageSet
from cvperf.data.sets.base import InMemory, Relabelled, select
from cvperf.errors import ArgumentError, check_number, describe

How = Literal["over", "under", "cluster-centroids", "smote", "adasyn"]


def counts(dataset: ImageSet) -> Tensor:
    """int64 [classes]: samples of each class."""
    return torch.bincount(_labels(dataset), minlength=len(dataset.classes))


def imbalanced(
    dataset: ImageSet, ratio: float, seed: int = 0, minority: Sequence[int | str] | None = None
) -> ImageSet:
    """Keep one in ``ratio`` samples of the minority classes, and all of the others.

    Args:
        dataset: single-label.
        ratio: 100 leaves 1 of 100, at least 1.
        seed: of the choice.
        minority: classes by number or name; by default the second half of them.
    """
    check_number("ratio", ratio, "1 or more")
    if ratio < 1:
        raise ArgumentError(f"ratio must be 1 or more, got {ratio}")
    labels = _labels(dataset)
    if minority is None:
        minority = range(len(dataset.classes) // 2, len(dataset.classes))
    few = {_number(dataset, name) for name in minority}
    generator = np.random.RandomState(seed)
    chosen = []
    for number in range(len(dataset.classes)):
        members = generator.permutation(torch.where(labels == number)[0].numpy())
        kept = len(members) if number not in few else max(1, round(len(members) / ratio))
        chosen.append(members[:kept])
    return _sorted(dataset, chosen)


def per_class(dataset: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """``n`` samples of each class, chosen at random: a few-shot set.

    Raises:
        ArgumentError: a class has fewer.
    """
    if (least := int(counts(dataset).min())) < n or n < 1:
        scarce = dataset.classes[int(counts(dataset).argmin())]
        raise ArgumentError(
            f"n must be 1 to {least}, got {n}: class {scarce!r} has {least} samples"
        )
    labels = _labels(dataset)
    generator = np.random.RandomState(seed)
    members = [torch.where(labels == c)[0].numpy() for c in range(len(dataset.classes))]
    return _sorted(dataset, [generator.permutation(some)[:n] for some in members])


def noisy_labels(dataset: ImageSet, fraction: float, seed: int = 0) -> ImageSet:
    """Give a fraction of the samples, chosen at random, another class than theirs, evenly drawn."""
    check_number("fraction", fraction, "0 to 1")
    if not 0 <= fraction <= 1 or len(dataset.classes) < 2:
        raise ArgumentError(
            f"fraction must be 0 to 1 and classes 2 or more, got {fraction} and "
            f"{len(dataset.classes)} classes"
        )
    labels = _labels(dataset).clone()
    generator = np.random.RandomState(seed)
    chosen = torch.from_numpy(generator.permutation(len(labels))[: round(fraction * len(labels))])
    # A step around the circle of classes, never all the way: every other class is as likely.
    steps = torch.from_numpy(generator.randint(1, len(dataset.classes), len(chosen)))
    labels[chosen] = (labels[chosen] + steps) % len(dataset.classes)
    return _relabelled(dataset, labels)


def outliers(dataset: ImageSet, fraction: float, distance: float = 10.0, seed: int = 0) -> ImageSet:
    """Give a fraction of the samples, chosen at random, a number far from all others.

    It lies ``distance`` to twice that many standard deviations of the labels from their mean, up or
    down by chance: what a sensor gives that fails now and then.

    Args:
        dataset: of regression, labels float32 [N].
        fraction: 0 to 1.
        distance: above 0.
        seed: of the choice and the numbers.
    """
    check_number("fraction", fraction, "0 to 1")
    check_number("distance", distance, "above 0")
    if not 0 <= fraction <= 1 or distance <= 0:
        raise ArgumentError(
            f"fraction must be 0 to 1 and distance above 0, got {fraction} and {distance}"
        )
    labels = dataset.labels
    if labels is None or not labels.is_floating_point() or labels.dim() != 1:
        got = "none" if labels is None else describe(labels)
        raise ArgumentError(f"dataset must have a number a sample, labels float [N]; got {got}")
    generator = np.random.RandomState(seed)
    chosen = torch.from_numpy(generator.permutation(len(labels))[: round(fraction * len(labels))])
    away = generator.uniform(distance, 2 * distance, len(chosen))
    away *= generator.choice([-1, 1], len(chosen))
    changed = labels.clone()
    changed[chosen] = labels.mean() + labels.std() * torch.from_numpy(away).to(labels)
    return _relabelled(dataset, changed)


def resample(
    dataset: ImageSet, how: How, seed: int = 0, *, neighbours: int = 5, **options: Any
) -> ImageSet:
    """Make classes as frequent as each other, by imbalanced-learn.

    Args:
        dataset: single-label.
        how: ``"over"`` repeats samples of small classes; ``"under"`` drops samples of large ones.
            On pixels, of sets in memory only: ``"cluster-centroids"`` keeps of a large class the
            samples nearest to the centres of its k-means clusters; ``"smote"`` and ``"adasyn"``
            add images between neighbours of small classes.
        seed: of the choice.
        neighbours: of "smote" and "adasyn"; a class needs one sample more.
        options: further ones of imbalanced-learn's class, such as ``sampling_strategy``.
    """
    labels = _labels(dataset)
    if how in ("over", "under"):
        make = _sampler_class(f"{how}_sampling", f"Random{how.title()}Sampler")
        sampler = make(random_state=seed, **options)
        sampler.fit_resample(np.arange(len(labels))[:, None], labels.numpy())
        return select(dataset, torch.from_numpy(np.sort(sampler.sample_indices_)).long())
    if how not in ("cluster-centroids", "smote", "adasyn"):
        raise ArgumentError(
            'how must be "over", "under", "cluster-centroids", "smote" or "adasyn", got '
            f"{describe(how)}"
        )
    if not isinstance(dataset, InMemory):
        raise ArgumentError(
            f'how="{how}" works on pixels of a set in memory, got {type(dataset).__name__}; '
            'use "over" or "under"'
        )
    sampler = _pixel_sampler(how, seed, neighbours, counts(dataset), dataset.classes, options)
    pixels, resampled = sampler.fit_resample(dataset.images.flatten(1).numpy(), labels.numpy())
    images = torch.from_numpy(np.asarray(pixels)).round().to(torch.uint8)
    return InMemory(
        images.view(-1, *dataset.images.shape[1:]), torch.from_numpy(resampled), dataset.classes
    )


def _pixel_sampler(
    how: str,
    seed: int,
    neighbours: int,
    samples: Tensor,
    classes: Sequence[str],
    options: dict[str, Any],
) -> Any:
    options["random_state"] = seed
    if how == "cluster-centroids":
        make = _sampler_class("under_sampling", "ClusterCentroids")
        from sklearn.cluster import MiniBatchKMeans

        clusters = MiniBatchKMeans(n_init=1, random_state=seed)
        return make(estimator=clusters, voting="hard", **options)
    present = samples[samples > 0]
    if int(present.min()) <= neighbours:
        scarce = classes[int((samples == present.min()).nonzero()[0])]
        raise ArgumentError(
            f"neighbours must be below the samples of the smallest class, got {neighbours}: "
            f'{scarce!r} has {int(present.min())}. Use fewer neighbours, or how="over"'
        )
    if how == "smote":
        return _sampler_class("over_sampling", "SMOTE")(k_neighbors=neighbours, **options)
    return _sampler_class("over_sampling", "ADASYN")(n_neighbors=neighbours, **options)


def _sampler_class(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"imblearn.{module}"), name)
    except ModuleNotFoundError as error:
        raise ImportError("resample needs imbalanced-learn: pip install 'cvperf[train]'") from error


def class_weights(
    labels: Tensor,
    classes: int,
    how: Literal["inverse", "effective"] = "inverse",
    beta: float = 0.999,
) -> Tensor:
    """float32 [classes], mean 1, for a loss that counts rare classes more.

    Args:
        labels: int64 [N].
        classes: how many.
        how: ``"inverse"``: one over the count. ``"effective"``: (1 - beta) / (1 - beta^count), one
            over the effective number of samples (Cui et al., CVPR 2019): more samples of a class
            tell less and less that is new.
        beta: 0 weighs all the same, towards 1 it becomes "inverse".

    Raises:
        ArgumentError: a class has no sample, so that its weight would be infinite.
    """
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ArgumentError(f"labels must be int64 [N], got {describe(labels)}")
    samples = torch.bincount(labels, minlength=classes).double()
    if len(samples) != classes or not samples.all():
        empty = torch.where(samples == 0)[0].tolist()
        raise ArgumentError(f"labels must have each of {classes} classes; without: {empty}")
    if how == "inverse":
        weights = 1 / samples
    elif how == "effective":
        if not 0 <= beta < 1:
            raise ArgumentError(f"beta must be 0 or more and below 1, got {beta}")
        weights = (1 - beta) / (1 - beta**samples)
    else:
        raise ArgumentError(f'how must be "inverse" or "effective", got {describe(how)}')
    return (weights / weights.mean()).float()


def presence_weights(labels: Tensor) -> Tensor:
    """float32 [classes]: of each class, how many samples lack it for one that has it.

    As ``pos_weight`` of ``binary_cross_entropy_with_logits`` they make presence and absence of a
    class count alike.

    Args:
        labels: float [N, classes] of 0 and 1.

    Raises:
        ArgumentError: a class has no sample, so that its weight would be infinite.
    """
    if not labels.is_floating_point() or labels.dim() != 2:
        raise ArgumentError(f"labels must be float [N, classes], got {describe(labels)}")
    present = labels.double().sum(0)
    if not present.all():
        empty = torch.where(present == 0)[0].tolist()
        raise ArgumentError(f"labels must have each of the classes; without: {empty}")
    return ((len(labels) - present) / present).float()


def _relabelled(dataset: ImageSet, labels: Tensor) -> ImageSet:
    if isinstance(dataset, InMemory):
        return InMemory(dataset.images, labels, dataset.classes)
    return Relabelled(dataset, labels)


def _labels(dataset: ImageSet) -> Tensor:
    labels = dataset.labels
    if labels is None or labels.dtype != torch.int64 or labels.dim() != 1:
        got = "none" if labels is None else describe(labels)
        raise ArgumentError(f"dataset must have one class a sample, labels int64 [N]; got {got}")
    return labels


def _number(dataset: ImageSet, name: int | str) -> int:
    if isinstance(name, str) and name in dataset.classes:
        return dataset.classes.index(name)
    if isinstance(name, int) and 0 <= name < len(dataset.classes):
        return name
    raise ArgumentError(
        f"minority must be classes of the set ({', '.join(dataset.classes)}) or their numbers, "
        f"got {describe(name)}"
    )


def _sorted(dataset: ImageSet, chosen: Sequence[np.ndarray]) -> ImageSet:
    return select(dataset, torch.from_numpy(np.sort(np.concatenate(chosen))).long())
