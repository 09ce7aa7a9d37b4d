"""Channels are made alike without a change of what the model computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

import cvperf
from cvperf import engine
from cvperf.engine.passes.convolution import CONV2D, WEIGHT, weight_of
from cvperf.quant.equalise import equalise


class Uneven(nn.Module):
    """Channels whose ranges differ by up to 50, read by a depthwise and then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=12)
        self.three = nn.Conv2d(12, 6, 1)
        spread = torch.logspace(0, -1.7, 12)
        with torch.no_grad():
            self.one.weight *= spread.view(-1, 1, 1, 1)
            self.one.bias.copy_(spread / 3)  # type: ignore[union-attr]
            self.two.weight /= spread.view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.one(x))
        return self.three(torch.relu(self.two(x))).flatten(1)


def images(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 9, 9, generator=generator) for _ in range(4)]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Uneven().eval()


def weights(graph: fx.GraphModule) -> list[Tensor]:
    found = [weight_of(graph, n.args[WEIGHT]) for n in graph.graph.nodes if n.target == CONV2D]
    return [each for each in found if each is not None]


def test_the_answer_stays(model: nn.Module) -> None:
    inputs = images(0)
    graph = engine.capture(model, (inputs[0],), {}).graph
    engine.fuse(graph)
    before = weights(graph)
    names = [node.name for node in graph.graph.nodes if node.target == CONV2D]
    with torch.no_grad():
        first = torch.relu(model.one(torch.cat(inputs)))
        highest = {names[0]: first.amax((0, 2, 3)), names[1]: torch.rand(12) + 0.1}
        factors = equalise(graph, highest)
        for each in inputs:
            torch.testing.assert_close(graph(each)[0], model(each), atol=1e-5, rtol=1e-4)
    assert list(factors) == names[:2], "nobody reads the last"
    reached = highest[names[0]] * factors[names[0]]
    torch.testing.assert_close(reached, reached.max().expand(12).contiguous())
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(graph), strict=True))


def test_small_channels_are_not_lost(model: nn.Module) -> None:
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=images(0)))
    with torch.no_grad():
        for each in images(1):
            expected = model(each)
            error = (fast(each) - expected).square().mean().sqrt() / expected.std()
            assert error < 0.005


def test_what_two_read_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.one(x))
            return self.two(x) * x

    graph = engine.capture(Shared().eval(), (images(0)[0],), {}).graph
    engine.fuse(graph)
    name = next(node.name for node in graph.graph.nodes if node.target == CONV2D)
    assert equalise(graph, {name: torch.rand(4)}) == {}


class Stream(nn.Module):
    """Two blocks add to what a first layer writes; channels differ by up to 50."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.ups = nn.ModuleList(nn.Conv2d(8, 16, 1) for _ in range(2))
        self.downs = nn.ModuleList(nn.Conv2d(16, 8, 1) for _ in range(2))
        spread = torch.logspace(0, -1.7, 8)
        with torch.no_grad():
            for layer in (self.first, *self.downs):
                layer.weight *= spread.view(-1, 1, 1, 1)  # type: ignore[operator]
                layer.bias *= spread  # type: ignore[operator]
            for layer in (self.last, *self.ups):
                layer.weight /= spread.view(1, -1, 1, 1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.downs[0](torch.relu(self.ups[0](x)))
        x = torch.relu(x + self.downs[1](torch.relu(self.ups[1](x))))
        return self.last(x).flatten(1)


def test_a_stream_is_scaled_as_one() -> None:
    torch.manual_seed(1)
    model, inputs = Stream().eval(), images(0)
    graph = engine.capture(model, (inputs[0],), {}).graph
    engine.fuse(graph)
    layers = [node for node in graph.graph.nodes if node.target == CONV2D]
    writers = [node.name for node in layers if node.meta["val"].shape[1] == 8]
    spread = torch.logspace(0, -1.7, 8)
    factors = equalise(graph, dict.fromkeys(writers, spread))
    assert set(factors) == set(writers)
    assert len(writers) == 3
    for name in writers:
        torch.testing.assert_close(factors[name], spread.rsqrt())
    with torch.no_grad():
        for each in inputs:
            torch.testing.assert_close(graph(each)[0], model(each), atol=1e-5, rtol=1e-4)


def test_a_stream_that_something_else_reads_is_left_alone() -> None:
    class Read(Stream):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x + self.downs[0](torch.relu(self.ups[0](x)))) * x.mean()

    graph = engine.capture(Read().eval(), (images(0)[0],), {}).graph
    engine.fuse(graph)
    layers = [node for node in graph.graph.nodes if node.target == CONV2D]
    writers = [node.name for node in layers if node.meta["val"].shape[1] == 8]
    assert len(writers) == 2
    assert equalise(graph, dict.fromkeys(writers, torch.rand(8) + 0.1)) == {}
