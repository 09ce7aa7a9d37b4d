"""Losses by layer against those of the real plans, and mixed plans within their limit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.quant.sensitivity import SensitivityReport, loss


class Net(nn.Module):
    """Its second layer's channels differ so much that bytes lose most of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.deep = nn.Conv2d(12, 12, 3, groups=12)
        self.head = nn.Linear(12, 5)
        with torch.no_grad():
            spread = torch.logspace(0, -2.5, 12)
            self.one.weight *= spread.view(-1, 1, 1, 1)
            self.one.bias *= spread  # type: ignore[operator]
            self.two.weight /= spread.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = self.two(x) + x
        return self.head(torch.relu(self.deep(x)).mean((2, 3)))


def images(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 12, 12, generator=generator) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def config() -> cvperf.Int8Config:
    return cvperf.Int8Config(calibration=images(4, 0), observer="percentile")


@pytest.fixture(scope="module")
def report(model: nn.Module, config: cvperf.Int8Config) -> SensitivityReport:
    return cvperf.sensitivity(model, config, images(3, 1))


def measured(model: nn.Module, config: cvperf.Int8Config, skip: tuple[str, ...]) -> float:
    """The loss of what the user gets."""
    fast = cvperf.optimize(model, dataclasses.replace(config, skip=skip))
    batches = images(3, 1)
    with torch.no_grad():
        return sum(loss([fast(x)], [model(x)]).square for x in batches) / len(batches)


def test_each_layer_loses_what_its_kernel_loses(
    model: nn.Module, config: cvperf.Int8Config, report: SensitivityReport
) -> None:
    names = {"one", "two", "deep", "head"}
    assert {layer.name for layer in report.layers} == names
    for layer in report.layers:
        alone = measured(model, config, tuple(names - {layer.name}))
        assert layer.loss.square == pytest.approx(alone, rel=0.05)
    assert report.layers[0].name == "two"
    assert report.whole.square == pytest.approx(measured(model, config, ()), rel=1e-3)
    assert sum(layer.work for layer in report.layers) == pytest.approx(1)
    assert {layer.name: layer.weights for layer in report.layers}["two"] == 144


def test_mixed_plans_keep_to_their_limit(
    model: nn.Module, config: cvperf.Int8Config, report: SensitivityReport
) -> None:
    limit = report.whole.square / 3
    plan = report.mixed(limit)
    assert plan.loss.square <= limit
    assert 0 < len(plan.skip) < 4
    assert "two" in plan.skip
    assert report.skip(limit) == plan.skip
    assert measured(model, config, plan.skip) == pytest.approx(plan.loss.square, rel=1e-3)
    assert report.skip(report.whole.square * 1.01) == ()
    assert len(report.skip(0)) == 4


def test_weights_of_four_bits_are_measured_as_such(
    model: nn.Module, config: cvperf.Int8Config, report: SensitivityReport
) -> None:
    four = dataclasses.replace(config, weight_bits=4)
    found = cvperf.sensitivity(model, four, images(3, 1))
    assert found.whole.square > 1.2 * report.whole.square
    assert found.whole.square == pytest.approx(measured(model, four, ()), rel=1e-3)


def test_it_prints_as_a_table(report: SensitivityReport) -> None:
    lines = str(report).splitlines()
    assert len(lines) == 6
    assert lines[1].startswith("two")
    assert lines[-1].startswith("all of them")
    assert "skip=('two'" in str(report.mixed(report.whole.square / 3))


def test_what_is_skipped_anyway_is_not_measured(model: nn.Module) -> None:
    config = cvperf.Int8Config(calibration=images(2, 0), observer="percentile", skip=("t*", "o*"))
    assert {layer.name for layer in cvperf.sensitivity(model, config).layers} == {"deep", "head"}


def test_losses_of_known_answers() -> None:
    one, other = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    found = loss([one], [other])
    assert found.square == pytest.approx(2 / 25)
    assert found.cosine == pytest.approx(24 / 25)
    share = 1 / (1 + torch.tensor(-1.0).exp().item())
    assert found.divergence == pytest.approx(share - (1 - share))
    assert loss([one[0], 3], [one[0], 3]).divergence is None


def test_bad_arguments_are_refused(model: nn.Module, config: cvperf.Int8Config) -> None:
    with pytest.raises(TypeError, match="config must be an Int8Config"):
        cvperf.sensitivity(model, cvperf.FusionConfig())  # type: ignore[arg-type]
    with pytest.raises(cvperf.ArgumentError, match="sizes of the first calibration input"):
        cvperf.sensitivity(model, config, [torch.rand(1, 3, 20, 20)])
    with pytest.raises(cvperf.ArgumentError, match="at least one input"):
        cvperf.sensitivity(model, cvperf.Int8Config())
    with pytest.raises(cvperf.ArgumentError, match="no layer that could be on integers"):
        cvperf.sensitivity(model, dataclasses.replace(config, skip=("*",)))
    with pytest.raises(cvperf.ArgumentError, match="evaluation mode"):
        cvperf.sensitivity(nn.Dropout(), config)
