"""Metrics of classification against scikit-learn, and where they are undefined."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from cvperf import ArgumentError
from cvperf.eval import Classification

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def samples(classes: int = 7, n: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), targets] += 1
    return logits, targets


def labels(classes: int = 4, n: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, classes, generator=generator) < 0.3).float()
    return torch.randn(n, classes, generator=generator) + 2 * targets - 1, targets


def measured(metrics: Classification, logits: Tensor, targets: Tensor) -> dict[str, float]:
    for part in range(0, len(logits), 64):
        metrics.update(logits[part : part + 64], targets[part : part + 64])
    return metrics.compute()


def test_single_label_figures_are_those_of_scikit_learn() -> None:
    logits, targets = samples()
    metrics = Classification(NAMES)
    found = measured(metrics, logits, targets)
    p, y, answers = logits.softmax(1), targets.numpy(), logits.argmax(1).numpy()
    each = oracle.precision_recall_fscore_support(y, answers)
    expected = {
        "accuracy": oracle.accuracy_score(y, answers),
        "top5": oracle.top_k_accuracy_score(y, logits, k=5),
        "precision": np.mean(each[0]),
        "recall": np.mean(each[1]),
        "f1": np.mean(each[2]),
        "auc": oracle.roc_auc_score(y, p.double() / p.double().sum(1, True), multi_class="ovr"),
        "ece": float(multiclass_calibration_error(p, targets, 7, n_bins=15)),
        **{f"precision/{name}": value for name, value in zip(NAMES, each[0], strict=True)},
        **{f"recall/{name}": value for name, value in zip(NAMES, each[1], strict=True)},
        **{f"f1/{name}": value for name, value in zip(NAMES, each[2], strict=True)},
        **{
            f"auc/{name}": oracle.roc_auc_score(y == number, p[:, number])
            for number, name in enumerate(NAMES)
        },
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert metrics.confusion.tolist() == oracle.confusion_matrix(y, answers).tolist()


def test_multi_label_figures_are_those_of_scikit_learn() -> None:
    logits, targets = labels()
    found = measured(Classification(NAMES[:4], "multi"), logits, targets)
    p, y, answers = logits.sigmoid().numpy(), targets.numpy(), (logits >= 0).numpy()
    each = oracle.precision_recall_fscore_support(y, answers)
    precisions = oracle.average_precision_score(y, p, average=None)
    expected = {
        "accuracy": (answers == y).mean(),
        "precision": np.mean(each[0]),
        "recall": np.mean(each[1]),
        "f1": np.mean(each[2]),
        "auc": oracle.roc_auc_score(y, p),
        "map": np.mean(precisions),
        **{f"ap/{name}": value for name, value in zip(NAMES, precisions, strict=False)},
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert "top5" not in found


def test_thresholds_decide_what_is_answered() -> None:
    logits, targets = labels()
    strict = Classification(NAMES[:4], "multi", thresholds=torch.tensor([0.5, 0.9, 0.5, 1.0]))
    plain, tuned = Classification(NAMES[:4], "multi"), strict
    before, after = measured(plain, logits, targets), measured(tuned, logits, targets)
    assert after["recall/ant"] == before["recall/ant"]
    assert after["recall/bee"] < before["recall/bee"]
    assert after["recall/dog"] == after["precision/dog"] == after["f1/dog"] == 0

    logits, targets = samples(2)
    eager = Classification(("no", "yes"), thresholds=0.1)
    assert measured(eager, logits, targets)["recall/yes"] > 0.95
    assert measured(Classification(("no", "yes")), logits, targets)["recall/yes"] < 0.95


def test_a_class_that_never_occurs_has_no_figures_and_is_in_no_mean() -> None:
    logits, targets = samples(3)
    targets[targets == 2] = 0
    found = measured(Classification(NAMES[:3]), logits, targets)
    assert not [name for name in found if name.endswith("/cat")]
    answers = logits.argmax(1)
    expected = oracle.recall_score(targets, answers, labels=[0, 1], average="macro")
    assert found["recall"] == pytest.approx(expected)
    assert found["auc"] == pytest.approx((found["auc/ant"] + found["auc/bee"]) / 2)


def test_one_class_alone_has_no_area() -> None:
    metrics = Classification(("no", "yes"))
    metrics.update(torch.tensor([[0.0, 1.0], [0.0, 2.0]]), torch.tensor([1, 1]))
    found = metrics.compute()
    assert found["recall"] == found["accuracy"] == 1
    assert not [name for name in found if name.startswith("auc")]


def test_a_class_that_is_never_answered_has_precision_0() -> None:
    metrics = Classification(("no", "yes"))
    metrics.update(torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))
    assert metrics.compute()["precision/yes"] == 0
    assert metrics.compute()["precision/no"] == 0.75


def test_areas_from_few_points_are_near_the_exact_ones() -> None:
    logits, targets = samples()
    exact = measured(Classification(NAMES), logits, targets)["auc"]
    assert measured(Classification(NAMES, curve_points=100), logits, targets)["auc"] == (
        pytest.approx(exact, abs=0.01)
    )


@pytest.mark.parametrize(
    ("kind", "missing"), [("single", {"auc"}), ("multi", {"auc", "ap", "map"})]
)
def test_areas_can_be_left_out(kind: Literal["single", "multi"], missing: set[str]) -> None:
    logits, targets = samples(4) if kind == "single" else labels(4)
    whole = measured(Classification(NAMES[:4], kind), logits, targets)
    short = measured(Classification(NAMES[:4], kind, curve_points=0), logits, targets)
    assert short == {
        name: value for name, value in whole.items() if name.partition("/")[0] not in missing
    }


def test_probabilities_that_mean_what_they_say_lie_on_the_line() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6000, 3, generator=generator) * 2
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    metrics = Classification(NAMES[:3], calibration_bins=10)
    assert measured(metrics, logits, targets)["ece"] < 0.03
    bars = metrics.reliability
    assert bars.predictions.sum() == 6000
    assert bars.predictions[:3].sum() == 0  # the likeliest of three is never below a third
    assert bars.accuracy[4:] == pytest.approx(bars.confidence[4:], abs=0.05)


def test_reset_forgets() -> None:
    logits, targets = samples()
    metrics = Classification(NAMES)
    measured(metrics, -logits, targets)
    metrics.reset()
    assert measured(metrics, logits, targets) == measured(Classification(NAMES), logits, targets)


def test_no_sample_is_an_error_that_says_so() -> None:
    metrics = Classification(NAMES)
    metrics.update(torch.zeros(0, 7), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ArgumentError, match="no sample"):
        metrics.compute()


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (
            torch.tensor([[0.0, float("nan")], [0, 0]]),
            torch.tensor([0, 0]),
            "NaN .* in 1 of 2 rows",
        ),
        (torch.zeros(2, 3), torch.tensor([0, 0]), r"\[n, 2\], got float32\[2, 3\]"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), r"from 0 to 1, got .*\[0, 2\]"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "integers"),
        (torch.zeros(2, 2), torch.zeros(2, 2), r"targets must be \[2\]"),
        (torch.zeros(2, 2, device="meta"), torch.tensor([0, 1]), "on cpu, got .* on meta"),
    ],
)
def test_a_bad_batch_is_refused(logits: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Classification(("no", "yes")).update(logits, targets)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ArgumentError, match="names that differ"):
        Classification(("cat", "cat"))
    with pytest.raises(ArgumentError, match="with two classes"):
        Classification(NAMES, thresholds=0.3)
    with pytest.raises(ArgumentError, match=r"a number or \[7\]"):
        Classification(NAMES, "multi", thresholds=torch.zeros(3))
    with pytest.raises(ArgumentError, match="confusion matrix needs"):
        _ = Classification(NAMES, "multi").confusion
