"""Anchors find their objects, and a step draws objects and background, as in torchvision."""

import pytest
import torch
from torchvision.models.detection import _utils

from cvperf.errors import ArgumentError
from cvperf.models.detection.matching import BELOW, BETWEEN, Matcher, balanced_sample


@pytest.mark.parametrize("low_quality", [False, True])
def test_matches_are_torchvisions(low_quality):
    torch.manual_seed(0)
    overlap = torch.rand(4, 300) ** 2
    ours = Matcher(0.7, 0.3, low_quality)(overlap)
    assert {BELOW, BETWEEN} < set(ours.tolist())
    assert torch.equal(ours, _utils.Matcher(0.7, 0.3, low_quality)(overlap))


def test_without_objects_all_is_background():
    assert Matcher(0.7, 0.3, True)(torch.zeros(0, 3)).tolist() == [BELOW] * 3


def test_without_anchors_nothing_is_matched():
    assert Matcher(0.7, 0.3, True)(torch.zeros(2, 0)).tolist() == []


def test_an_object_that_no_anchor_fits_gets_its_best_ones():
    overlap = torch.tensor([[0.1, 0.2, 0.2], [0.9, 0.0, 0.0]])
    assert Matcher(0.7, 0.3, True)(overlap).tolist() == [1, 0, 0]
    assert Matcher(0.7, 0.3)(overlap).tolist() == [1, BELOW, BELOW]


def test_the_same_seed_draws_what_torchvision_draws():
    labels = torch.randint(-1, 3, (2000,), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    positive, negative = balanced_sample(labels, 256, 0.25)
    torch.manual_seed(1)
    theirs = _utils.BalancedPositiveNegativeSampler(256, 0.25)([labels])
    assert (len(positive), len(negative)) == (64, 192)
    assert torch.equal(positive.sort().values, theirs[0][0].nonzero()[:, 0])
    assert torch.equal(negative.sort().values, theirs[1][0].nonzero()[:, 0])


def test_background_fills_up_what_objects_leave():
    labels = torch.tensor([-1, 0, 0, 0, 2, 0])
    positive, negative = balanced_sample(labels, 4, 0.5)
    assert positive.tolist() == [4]
    assert len(negative) == 3
    assert set(negative.tolist()) < {1, 2, 3, 5}


def test_thresholds_the_wrong_way_round_are_refused():
    with pytest.raises(ArgumentError, match=r"low 0.7 and high 0.3"):
        Matcher(0.3, 0.7)
