"""Losses by name."""

import pytest
import torch
import torch.nn.functional as F

from cvperf.errors import ArgumentError
from cvperf.train import losses
from cvperf.train.recipe import Loss

LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
WEIGHTS = [1.0, 2.0, 0.5, 1.0, 3.0]


def test_cross_entropy_smooths_and_weighs_as_torch_does():
    config = Loss(label_smoothing=0.1, class_weights=WEIGHTS)
    expected = F.cross_entropy(
        LOGITS, LABELS, torch.tensor(WEIGHTS, dtype=torch.float64), label_smoothing=0.1
    )
    assert losses.build(config, LABELS, 5)(LOGITS, LABELS) == pytest.approx(float(expected))


@pytest.mark.parametrize("weights", [[], WEIGHTS])
def test_focal_without_gamma_is_cross_entropy(weights):
    focal = losses.build(Loss("focal", gamma=0.0, class_weights=weights), LABELS, 5)
    cross_entropy = losses.build(Loss(class_weights=weights), LABELS, 5)
    assert focal(LOGITS, LABELS) == pytest.approx(float(cross_entropy(LOGITS, LABELS)))


def test_focal_counts_what_is_right_already_little():
    sure = torch.tensor([[4.0, 0.0]])
    unsure = torch.tensor([[0.0, 0.0]])
    label = torch.tensor([0])
    plain = F.cross_entropy(sure, label) / F.cross_entropy(unsure, label)
    focal = losses.focal(sure, label, 2.0) / losses.focal(unsure, label, 2.0)
    assert focal < plain * 0.01


def test_focal_takes_probabilities_for_labels():
    shares = F.one_hot(LABELS, 5).double()
    assert torch.equal(losses.focal(LOGITS, shares, 2.0), losses.focal(LOGITS, LABELS, 2.0))


def test_bce_of_one_class_an_image_is_refused():
    with pytest.raises(ArgumentError, match=r"int64\[8\].*float64\[8, 5\].*cross_entropy"):
        losses.build(Loss("bce"), LABELS, 5)(LOGITS, LABELS)


@pytest.mark.parametrize(("name", "of"), [("mse", F.mse_loss), ("mae", F.l1_loss)])
def test_regression_takes_a_column_of_answers(name, of):
    answers, targets = torch.randn(6, 1), torch.randn(6)
    expected = of(answers.flatten(), targets)
    assert losses.build(Loss(name), LABELS, 0)(answers, targets) == expected


def test_huber_is_a_line_beyond_delta():
    huber = losses.build(Loss("huber", delta=0.5), LABELS, 0)
    far = huber(torch.tensor([10.0]), torch.tensor([0.0]))
    assert far == pytest.approx(0.5 * (10 - 0.25))


def test_class_weights_must_be_one_a_class():
    with pytest.raises(ArgumentError, match="has 2 numbers, expected one for each of 5"):
        losses.build(Loss(class_weights=[1.0, 2.0]), LABELS, 5)


def test_an_unknown_loss_names_the_known_ones():
    with pytest.raises(ArgumentError, match="cross_entropy, focal, bce"):
        losses.build(Loss("hinge"), LABELS, 5)
