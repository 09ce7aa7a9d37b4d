"""Several models' probabilities as one answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf import ArgumentError
from cvperf.eval import Stacking, combine

THREE = torch.tensor(
    [
        [[0.6, 0.4, 0.0], [0.5, 0.5, 0.0]],
        [[0.6, 0.4, 0.0], [0.0, 0.2, 0.8]],
        [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]],
    ]
)


def test_the_mean_and_the_majority_can_differ() -> None:
    torch.testing.assert_close(combine(THREE)[0], torch.tensor([0.4, 0.6, 0.0]))
    assert combine(THREE).argmax(1)[0] == 1
    assert combine(THREE, "vote").argmax(1)[0] == 0


def test_a_tie_of_votes_goes_to_the_higher_mean_and_rows_sum_to_1() -> None:
    # One vote each in the second sample: mean probabilities are 0.17, 0.57 and 0.27.
    found = combine(THREE, "vote")
    assert found.argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(found.sum(1), torch.ones(2))


def test_weights_count_as_repeated_members() -> None:
    repeated = THREE[[0, 0, 0, 1]]
    torch.testing.assert_close(combine(THREE, "weighted", [3, 1, 0]), repeated.mean(0))


def members(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """One good model, one that guesses, and one that is sure and wrong: it shifts every class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (n,), generator=generator)
    noise = torch.randn(3, n, 3, generator=generator)
    good, shifted = noise[0], noise[2]
    good[torch.arange(n), targets] += 1.5
    shifted[torch.arange(n), (targets + 1) % 3] += 4
    return torch.stack([good, noise[1], shifted]).softmax(2), targets


def test_stacking_learns_from_a_member_that_is_always_wrong() -> None:
    stacking = Stacking().fit(*members(600, 0))
    probabilities, targets = members(600, 1)
    stacked = stacking(probabilities)
    torch.testing.assert_close(stacked.sum(1), torch.ones(600))
    accuracy = (stacked.argmax(1) == targets).float().mean()
    assert accuracy > 0.95
    assert accuracy > (combine(probabilities).argmax(1) == targets).float().mean() + 0.3


def test_stacking_gives_a_class_it_never_saw_0() -> None:
    probabilities, targets = members(200, 0)
    seen = targets != 1
    stacked = Stacking().fit(probabilities[:, seen], targets[seen])(probabilities)
    assert stacked.shape == (200, 3)
    assert stacked[:, 1].max() == 0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"must be \[members, N, classes\]"):
        combine(torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="apply softmax"):
        combine(torch.full((1, 1, 2), 3.0))
    with pytest.raises(ArgumentError, match="apply softmax"):
        combine(torch.full((1, 1, 2), float("nan")))
    with pytest.raises(ArgumentError, match="weights go with"):
        combine(THREE, "mean", [1, 1, 1])
    with pytest.raises(ArgumentError, match="3 numbers of 0 or more"):
        combine(THREE, "weighted", [1, -1, 1])
    with pytest.raises(ArgumentError, match="how must be"):
        combine(THREE, "median")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="two classes or more"):
        Stacking().fit(THREE, torch.tensor([1, 1]))
    with pytest.raises(ArgumentError, match=r"call fit\(\)"):
        Stacking()(THREE)
    probabilities, targets = members(50, 0)
    with pytest.raises(ArgumentError, match=r"\[3, N, 3\], as in fit"):
        Stacking().fit(probabilities, targets)(probabilities[:2])
