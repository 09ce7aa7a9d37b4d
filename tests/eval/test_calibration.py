"""Temperature scaling."""

from __future__ import annotations

import pytest
import torch

from cvperf import ArgumentError
from cvperf.eval import Classification, fit_temperature


def test_the_temperature_undoes_overconfidence_and_keeps_the_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(4000, 4, generator=generator)
    targets = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    too_sure = honest * 3
    temperature = fit_temperature(too_sure[:2000], targets[:2000])
    assert temperature == pytest.approx(3, rel=0.1)
    before, after = Classification("abcd"), Classification("abcd")
    before.update(too_sure[2000:], targets[2000:])
    after.update(too_sure[2000:] / temperature, targets[2000:])
    assert after.compute()["ece"] < before.compute()["ece"] / 3
    assert after.confusion.equal(before.confusion)


def test_a_model_without_an_error_gets_the_least_temperature() -> None:
    assert fit_temperature(torch.eye(3), torch.arange(3)) < 0.05


def test_bad_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"logits must be \[N, classes\]"):
        fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ArgumentError, match="must be finite"):
        fit_temperature(torch.full((1, 2), float("nan")), torch.tensor([0]))
