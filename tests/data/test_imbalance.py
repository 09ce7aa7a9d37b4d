"""Sets are made imbalanced, small or noisy, and balanced again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cvperf.data import (
    InMemory,
    class_weights,
    imbalanced,
    load,
    noisy_labels,
    per_class,
    resample,
)
from cvperf.data.imbalance import counts
from cvperf.errors import ArgumentError
from tests.data.pictures import write


def pictures(*samples: int) -> InMemory:
    """So many samples of each class; a class's pictures are about as bright as each other."""
    labels = torch.cat([torch.full((n,), number) for number, n in enumerate(samples)])
    bright = labels[:, None, None, None] * 80 + torch.randint(20, (len(labels), 1, 4, 4))
    return InMemory(bright.to(torch.uint8), labels, [f"c{n}" for n in range(len(samples))])


def test_minority_classes_keep_one_in_ratio() -> None:
    whole = pictures(100, 100, 100, 100)
    assert counts(imbalanced(whole, 20)).tolist() == [100, 100, 5, 5]
    few = imbalanced(whole, 1000, minority=["c1", 3])
    assert counts(few).tolist() == [100, 1, 100, 1]
    assert isinstance(few, InMemory)
    assert (few.images[few.labels == 1] >= 80).all()
    same, other = imbalanced(whole, 2, seed=1), imbalanced(whole, 2, seed=2)
    assert torch.equal(same.images, imbalanced(whole, 2, seed=1).images)  # type: ignore[attr-defined]
    assert not torch.equal(same.images, other.images)  # type: ignore[attr-defined]


def test_a_few_of_each_class_are_chosen() -> None:
    few = per_class(pictures(30, 40, 50), 5, seed=1)
    assert counts(few).tolist() == [5, 5, 5]
    with pytest.raises(ArgumentError, match="class 'c1' has 4 samples"):
        per_class(pictures(30, 4), 5)


def test_noisy_labels_are_wrong_for_the_fraction_and_evenly_so() -> None:
    whole = pictures(300, 300, 300)
    noisy = noisy_labels(whole, 0.4, seed=3)
    wrong = noisy.labels != whole.labels
    assert int(wrong.sum()) == 360
    confusion = torch.bincount(whole.labels[wrong] * 3 + noisy.labels[wrong], minlength=9)  # type: ignore[index]
    assert confusion.view(3, 3).diag().tolist() == [0, 0, 0]
    assert confusion[confusion > 0].min() > 40
    assert torch.equal(noisy.labels, noisy_labels(whole, 0.4, seed=3).labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "expected"),
    [("over", 40), ("under", 10), ("smote", 40), ("adasyn", 40), ("cluster-centroids", 10)],
)
def test_resampling_makes_classes_as_frequent_as_each_other(how: Any, expected: int) -> None:
    whole = pictures(40, 10)
    # ADASYN adds most where classes mix; here one outlier of class 1 lies among class 0.
    whole.images[-1] = whole.images[0] + 1
    balanced = resample(whole, how, seed=0, neighbours=3)
    found = counts(balanced)
    assert (found - expected).abs().max() <= 2
    assert balanced.images.shape[1:] == (1, 4, 4)  # type: ignore[attr-defined]
    again = resample(whole, how, seed=0, neighbours=3)
    assert torch.equal(balanced.images, again.images)  # type: ignore[attr-defined]
    if how in ("under", "over", "cluster-centroids"):
        known = {tuple(image.flatten().tolist()) for image in whole.images}
        chosen = balanced.images  # type: ignore[attr-defined]
        assert all(tuple(image.flatten().tolist()) in known for image in chosen)


def test_sets_of_files_are_resampled_by_index_only(tmp_path: Path) -> None:
    for name, count in {"a": 6, "b": 2}.items():
        for i in range(count):
            write(tmp_path / "train" / name / f"{i}.png")
    files = load("folder", "train", root=tmp_path)
    assert counts(resample(files, "over")).tolist() == [6, 6]
    assert resample(files, "over")[11][1] == 1
    noisy = noisy_labels(files, 1.0)
    assert noisy[0][1] == 1
    with pytest.raises(ArgumentError, match=r"pixels of a set in memory, got ImageFiles"):
        resample(files, "smote")


def test_what_cannot_be_resampled_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"'c1' has 3\. Use fewer neighbours"):
        resample(pictures(20, 3), "smote")
    with pytest.raises(ArgumentError, match='how must be "over"'):
        resample(pictures(20, 3), "both")  # type: ignore[arg-type]
    multi = InMemory(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.ones(2, 3), "abc")
    with pytest.raises(ArgumentError, match=r"one class a sample.*float32\[2, 3\]"):
        imbalanced(multi, 2)


def test_weights_are_those_of_the_papers() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    torch.testing.assert_close(class_weights(labels, 2), torch.tensor([0.2, 1.8]))
    beta = 0.9
    effective = torch.tensor([(1 - beta**90) / (1 - beta), (1 - beta**10) / (1 - beta)])
    expected = (1 / effective) / (1 / effective).mean()
    torch.testing.assert_close(class_weights(labels, 2, "effective", beta=beta), expected)
    even = class_weights(labels, 2, "effective", beta=0.0)
    torch.testing.assert_close(even, torch.ones(2))
    with pytest.raises(ArgumentError, match=r"without: \[2\]"):
        class_weights(labels, 3)
