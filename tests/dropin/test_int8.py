"""Models on 8-bit integers: near their float selves, on our kernels, and what is left out stays."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.dropin.optimize import OptimizedModel


class Block(nn.Module):
    """A shortcut, a depthwise layer, an activation that is no clamp."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class Net(nn.Module):
    """Pools and concatenations on bytes; a mean in float, a head on bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2))
        self.left, self.right = Block(16), nn.Conv2d(16, 8, 3, padding=1)
        self.mix = nn.Conv2d(24, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.left(x), torch.relu(self.right(x))], 1)
        return self.head(torch.tanh(self.mix(x)).mean((2, 3)))


def images(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape or (2, 3, 32, 32), generator=generator) for _ in range(count)]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def nearness(model: nn.Module, fast: nn.Module, batches: list[Tensor]) -> float:
    """The least cosine of their answers, the mean answer taken off."""
    with torch.no_grad():
        expected = torch.cat([model(batch) for batch in batches]).double()
        found = torch.cat([fast(batch) for batch in batches]).double()
    mean = expected.mean(0)
    return torch.cosine_similarity(expected - mean, found - mean).min().item()


def steps(fast: OptimizedModel) -> dict[str, int]:
    return fast.explain().plans[-1].ours


@pytest.mark.parametrize("observer", ["minmax", "histogram", "percentile", "entropy"])
def test_answers_are_near(net: nn.Module, observer: str) -> None:
    config = cvperf.Int8Config(calibration=images(4), observer=observer, skip=("head",))
    fast = cvperf.optimize(net, config)
    assert nearness(net, fast, images(8, seed=1)) > 0.97
    found = steps(fast)
    assert found["conv2d_int8"] == 5
    assert found["quantize"] == 1, "the image alone is turned into bytes"
    assert not any(name.startswith("conv2d,") for name in found)


class Tokens(nn.Module):
    """Fully connected layers on images' tokens, and on one row."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 8, 8)
        self.up, self.down = nn.Linear(24, 50, bias=False), nn.Linear(50, 24)
        self.head = nn.Linear(24, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(torch.nn.functional.gelu(self.up(x)))
        return self.head(x[:, 0])


def test_fully_connected_layers_are_on_bytes() -> None:
    torch.manual_seed(3)
    model = Tokens().eval()
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=images(32)))
    for shape in ((2, 3, 32, 32), (3, 3, 32, 32), (1, 3, 40, 24)):
        batch = images(1, *shape, seed=2)[0]
        with torch.no_grad():
            expected = model(batch)
        assert (fast(batch) - expected).abs().max() < 0.05 * expected.abs().max()
        assert steps(fast)["linear_int8"] == 3
        assert "linear" not in steps(fast)
    config = cvperf.Int8Config(calibration=images(2), skip=("up", "head"))
    found = steps(cvperf.optimize(model, config, example_inputs=images(1)[0]))
    assert (found["linear_int8"], found["linear"]) == (1, 2)


def test_weights_are_a_quarter() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Flatten(), nn.Linear(64, 256)).eval()
    image = torch.rand(1, 32, 3, 3)
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=[image]), image)
    (plan,) = fast.explain().plans
    exact = sum(each.numel() for each in model.parameters())
    assert exact < plan.weight_bytes < 1.15 * exact, "a byte a number, four for a filter's scale"
    assert f"weights {plan.weight_bytes / 1e6:.1f} MB" in str(plan)
    graph = fast._captured[0].graph
    held = [*graph.parameters(), *graph.buffers()]
    assert not [each for each in held if each.dtype == torch.float32 and each.dim() > 1]


def test_one_scale_a_layer_loses_more() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16, 8)).eval()
    with torch.no_grad():
        model[0].weight *= torch.logspace(0, -2, 16).view(-1, 1, 1, 1)
        model[2].weight /= torch.logspace(0, -2, 16)
    batches = images(6, 4, 3, 3, 3)
    near = [
        nearness(model, cvperf.optimize(model, config), batches)
        for config in (
            cvperf.Int8Config(calibration=batches, per_channel=each, skip=("2",))
            for each in (True, False)
        )
    ]
    assert near[0] > near[1]
    assert 1 - near[1] > 3 * (1 - near[0])


class Dense(nn.Module):
    """Every layer reads all before it, so that an image is part of several wholes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(1, 4))
        self.stem, self.last = nn.Conv2d(3, 7, 3), nn.Conv2d(19, 4, 1)
        with torch.no_grad():  # of very different ranges
            for i, layer in enumerate(self.layers):
                layer.weight *= 2.0 ** (2 - i)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.nn.functional.avg_pool2d(torch.relu(self.stem(x)), 2)]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return self.last(torch.nn.functional.max_pool2d(torch.cat(parts, 1), 2)).flatten(1)


def test_parts_of_several_wholes_have_one_scale() -> None:
    torch.manual_seed(1)
    model = Dense().eval()
    batches = images(3)
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=batches))
    assert nearness(model, fast, batches) > 0.97
    found = steps(fast)
    pools = (found["max_pool2d"], found["avg_pool2d"])
    assert (found["conv2d_int8"], found["concat"], *pools) == (5, 4, 1, 1)
    assert found["quantize"] == 1


def test_other_sizes_have_the_same_ranges(net: nn.Module) -> None:
    fast = cvperf.optimize(net, cvperf.Int8Config(calibration=images(4)))
    for shape in ((1, 3, 32, 32), (3, 3, 40, 24), (4, 3, 64, 64)):
        batch = images(1, *shape, seed=2)[0]
        with torch.no_grad():
            expected = net(batch)
        assert (fast(batch) - expected).abs().max() < 0.05 * expected.abs().max()
        assert steps(fast)["conv2d_int8"] == 5


def test_layers_are_left_out_by_name(net: nn.Module) -> None:
    config = cvperf.Int8Config(calibration=images(2), skip=("stem.*", "m?x"))
    found = steps(cvperf.optimize(net, config, example_inputs=images(1)[0]))
    assert found["conv2d_int8"] == 3
    assert sum(count for name, count in found.items() if name.startswith("conv2d,")) == 2


def test_calibration_may_be_any_iterable(net: nn.Module) -> None:
    def arguments() -> Iterator[tuple[Tensor]]:
        for image in images(3):
            yield (image,)

    one = cvperf.optimize(net, cvperf.Int8Config(calibration=arguments()))
    other = cvperf.optimize(net, cvperf.Int8Config(calibration=images(3)))
    batch = images(1, seed=3)[0]
    assert torch.equal(one(batch), other(batch))


def test_a_model_that_is_split_is_calibrated_in_its_parts() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Net(), nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if x.mean() > 0 else self.two(x).flatten(1)[:, :5]

    model = Decides().eval()
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=images(2), skip=("one.head",)))
    twin = copy.deepcopy(fast)
    assert torch.equal(twin(images(1)[0]), fast(images(1)[0]))
    assert twin.explain() == fast.explain()
    assert nearness(model, fast, images(4, seed=1)) > 0.95
    (part,) = (part for part in fast.explain().parts if part.name == "one")
    assert part.plans[0].ours["conv2d_int8"] == 5
    with torch.no_grad():  # never calibrated: float
        torch.testing.assert_close(fast(-images(1)[0]), model(-images(1)[0]), atol=1e-5, rtol=1e-4)


def test_copies_keep_the_calibration(net: nn.Module) -> None:
    fast = cvperf.optimize(net, cvperf.Int8Config(calibration=iter(images(2))))
    batch = images(1, seed=5)[0]
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(twin(batch), fast(batch))


def test_the_model_is_left_in_float(net: nn.Module) -> None:
    before = copy.deepcopy(net.state_dict())
    cvperf.optimize(net, cvperf.Int8Config(calibration=images(1)))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_bad_arguments_are_refused(net: nn.Module) -> None:
    with pytest.raises(cvperf.ArgumentError, match="at least one input, got none"):
        cvperf.optimize(net, cvperf.Int8Config())
    with pytest.raises(cvperf.ArgumentError, match="observer must be"):
        cvperf.Int8Config(observer="median")
    with pytest.raises(TypeError, match="skip must be a tuple of names"):
        cvperf.Int8Config(skip="head")
