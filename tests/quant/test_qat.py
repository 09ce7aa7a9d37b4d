"""Training on integers: the plan computes with those that were trained."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import cvperf
from cvperf import engine
from cvperf.ops.conv2d_int8 import pack_conv2d_int8
from cvperf.quant.qat import ImageRange, RoundedConv2d, rounded
from cvperf.quant.trained import quantise_trained

pytest.importorskip("torchao")


def layer(channels: int, filters: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, filters, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters))


class Residual(nn.Module):
    """Sums of a block and what went into it, of two convolutions, and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool, self.relu = layer(3, 8), nn.MaxPool2d(2), nn.ReLU(inplace=True)
        self.one, self.two = layer(8, 8), layer(8, 8)
        self.down, self.short = layer(8, 12, 2), nn.Conv2d(8, 12, 1, 2)
        self.linear = layer(12, 12, groups=12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.stem(x)))
        out = self.two(self.relu(self.one(x)))
        out += x
        x = self.relu(out)
        x = torch.relu(self.down(x) + self.short(x))
        x = x + self.linear(x)
        return self.head(x.mean((2, 3)))


class Joined(nn.Module):
    """Concatenations that share parts, and a pool of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left = nn.Conv2d(3, 8, 3, 2, 1), layer(8, 4)
        self.right, self.mix, self.last = layer(12, 4), layer(16, 6), nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        left = F.silu(self.left(x))
        right = self.right(torch.cat([x, left], 1))
        x = F.max_pool2d(torch.cat([x, left, right], 1), 2)
        return self.last(F.hardswish(self.mix(x))).mean((2, 3))


class Averaged(nn.Module):
    """A mean of bytes is a byte again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = layer(3, 8), nn.Conv2d(8, 5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.avg_pool2d(torch.relu(self.stem(x)), 2)).mean((2, 3))


def images(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(8, 3, 16, 16, generator=generator) for _ in range(count)]


def trained(model: nn.Module, bits: int, skip: tuple[str, ...] = ()) -> fx.GraphModule:
    """A few steps, and batch norms that turn the signs of some filters."""
    found = cvperf.prepare_qat(model, cvperf.Int8Config(weight_bits=bits, skip=skip))
    optimizer = torch.optim.SGD(found.parameters(), 0.02)
    for image in images(6):
        optimizer.zero_grad()
        (found(image) - image.mean((2, 3)).sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[::3] *= -1
    return found.eval()


def steps(fast: nn.Module) -> dict[str, int]:
    return fast.explain().plans[-1].ours


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("make", "layers"), [(Residual, 6), (Joined, 5), (Averaged, 2)])
def test_the_plan_answers_as_the_trained_model(
    make: Callable[[], nn.Module], layers: int, bits: int
) -> None:
    model = trained(make().train(), bits)
    fast = cvperf.optimize(model, cvperf.Int8Config(weight_bits=bits))
    with torch.no_grad():
        for image in images(4, seed=1):
            expected, found = model(image).double(), fast(image).double()
            assert F.cosine_similarity(expected, found).min() > 0.9999
            top = expected.topk(2).values
            clear = top[:, 0] - top[:, 1] > 0.01 * top[:, 0].abs()
            assert torch.equal(expected.argmax(1)[clear], found.argmax(1)[clear])
    found_steps = steps(fast)
    assert found_steps["conv2d_int8"] == layers
    assert found_steps["quantize"] == 1, "only the input is turned into bytes"
    assert not any(name.startswith("conv2d,") for name in found_steps)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_integers_are_those_of_the_training(bits: int) -> None:
    most = 2 ** (bits - 1) - 1
    model = trained(Residual(), bits)
    graph = engine.capture(model, (images(1)[0],), {}).graph
    engine.fuse(graph)
    assert quantise_trained(graph, lambda name: True)
    packed = [
        getattr(graph, str(node.args[1].target))
        for node in graph.graph.nodes
        if node.target == torch.ops.cvperf.conv2d_int8.default
    ]
    modules = dict(model.named_modules())
    expected = []
    for name, module in modules.items():
        if isinstance(module, RoundedConv2d):
            weight = module.weight.detach()
            values = (weight / weight.abs().amax((1, 2, 3), keepdim=True) * most).round()
            norm = modules.get(f"{name.removesuffix('.0')}.1")
            if norm is not None:
                values *= norm.weight.detach().sign().view(-1, 1, 1, 1)
            expected.append(pack_conv2d_int8(values.to(torch.int8), module.groups).data)
    assert len(expected) == len(packed) == 6
    for one in packed:
        assert any(torch.equal(one, other) for other in expected)


def test_what_is_skipped_stays_float() -> None:
    model = trained(Residual(), 8, ("stem.*", "short"))
    assert type(model.get_submodule("short")) is nn.Conv2d
    fast = cvperf.optimize(model, cvperf.Int8Config())
    image = images(1, seed=1)[0]
    with torch.no_grad():
        torch.testing.assert_close(fast(image), model(image), atol=2e-3, rtol=2e-3)
    assert steps(fast)["conv2d_int8"] == 4


def test_without_int8_the_plan_rounds_as_the_model() -> None:
    model = trained(Residual(), 4)
    fast = cvperf.optimize(model)
    image = images(1, seed=1)[0]
    with torch.no_grad():
        torch.testing.assert_close(fast(image), model(image), atol=2e-3, rtol=2e-3)


def test_names_stay_and_the_model_too() -> None:
    model = Residual().train()
    before = copy.deepcopy(model.state_dict())
    found = cvperf.prepare_qat(model)
    assert found.training
    assert found.get_submodule("stem").training
    assert set(before) <= set(found.state_dict())
    trained(model, 8)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    missing, unexpected = model.load_state_dict(found.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith("image_ranges.") for name in unexpected)
    assert not cvperf.prepare_qat(Residual().eval()).training


def test_a_trained_state_can_be_loaded() -> None:
    model = trained(Joined(), 4)
    twin = cvperf.prepare_qat(Joined(), cvperf.Int8Config(weight_bits=4)).eval()
    twin.load_state_dict(model.state_dict())
    image = images(1, seed=1)[0]
    with torch.no_grad():
        assert torch.equal(twin(image), model(image))


def test_copies_of_the_optimised_model() -> None:
    model = trained(Joined(), 8)
    fast = cvperf.optimize(model, cvperf.Int8Config())
    image = images(1, seed=1)[0]
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(twin(image), fast(image))


def test_a_part_is_enough() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Joined()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) if x.mean() > 0 else -self.body(x)

    model = Decides()
    with pytest.raises(cvperf.ArgumentError, match=r"model.part = cvperf.prepare_qat"):
        cvperf.prepare_qat(model)
    model.body = trained(model.body, 8)  # type: ignore[assignment]
    fast = cvperf.optimize(model.eval(), cvperf.Int8Config())
    image = images(1, seed=1)[0]
    with torch.no_grad():
        torch.testing.assert_close(fast(image), model(image), atol=2e-3, rtol=2e-3)
    (part,) = (part for part in fast.explain().parts if part.plans)
    assert part.plans[0].ours["conv2d_int8"] == 5


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    value = rounded(weight, 7)
    rest = torch.randn_like(value)
    (value * rest).sum().backward()
    torch.testing.assert_close(weight.grad, rest)
    assert all(len(each.unique()) <= 15 for each in value.detach())
    image_range = ImageRange(1)
    image = torch.randn(2, 3, 5, 5, requires_grad=True)
    image_range(image, 0).sum().backward()
    torch.testing.assert_close(image.grad, torch.ones_like(image))


def test_connected_images_have_the_widest_range() -> None:
    shared = ImageRange(2)
    shared(torch.full((1, 1, 2, 2), 3.0), 0)
    shared(torch.full((1, 1, 2, 2), -1.0), 1)
    torch.testing.assert_close(shared.scale, torch.tensor([4 / 255]))
    assert shared.zero_point.item() == 64


def test_what_was_not_trained_is_refused() -> None:
    model = cvperf.prepare_qat(Joined().eval())
    with pytest.raises(cvperf.ArgumentError, match="before the first training step"):
        model(images(1)[0])
    fast = cvperf.optimize(model, cvperf.Int8Config())
    with pytest.raises(cvperf.ArgumentError, match="prepared for training on integers but not"):
        fast(images(1)[0])


def test_what_cannot_be_traced_is_refused() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.one(x), training=self.training)

    with pytest.raises(cvperf.ArgumentError, match="asks in its own code whether it is trained"):
        cvperf.prepare_qat(Asks())
    with pytest.raises(cvperf.ArgumentError, match=r"has no torch\.nn\.Conv2d"):
        cvperf.prepare_qat(Joined(), cvperf.Int8Config(skip=("*",)))
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        cvperf.prepare_qat(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be an Int8Config"):
        cvperf.prepare_qat(Joined(), cvperf.FusionConfig())  # type: ignore[arg-type]
    with pytest.raises(cvperf.ArgumentError, match="weight_bits must be 4, 7 or 8, got 3"):
        cvperf.Int8Config(weight_bits=3)


# --- what it is for


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *layer(1, 8), nn.ReLU(), nn.MaxPool2d(2), *layer(8, 12), nn.ReLU()
        )
        self.head = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Composed: a bar at one of six angles in noise, [N, 1, 12, 12]; and which of the six."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(6, (count,), generator=generator)
    angle = label * torch.pi / 6
    offset = torch.rand(count, generator=generator) * 4 - 2
    grid = torch.arange(12) - 5.5
    across = grid.view(1, 12, 1) * angle.cos().view(-1, 1, 1)
    along = grid.view(1, 1, 12) * angle.sin().view(-1, 1, 1)
    distance = (across + along - offset.view(-1, 1, 1)).abs()
    noise = torch.randn(count, 12, 12, generator=generator)
    return ((distance < 1).float() + 0.35 * noise).unsqueeze(1), label


def fit(model: nn.Module, epochs: int, rate: float) -> nn.Module:
    image, label = bars(2048, 0)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for some in torch.arange(2048).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(image[some]), label[some]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Such small tensors are not worth a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_trained_classifier_keeps_its_answers() -> None:
    """The limits of the issue: half a point for INT8, two for weights of 4 bits."""
    image, label = bars(2000, 1)

    def right(fast: nn.Module) -> float:
        with torch.no_grad():
            return (fast(image).argmax(1) == label).double().mean().item()

    model = fit(Classifier(), 8, 1e-2)
    reached = right(cvperf.optimize(model))
    assert reached > 0.9
    calibration = [bars(64, seed)[0] for seed in range(2, 6)]
    assert (
        right(cvperf.optimize(model, cvperf.Int8Config(calibration=calibration))) > reached - 0.005
    )
    for bits, most in ((8, 0.005), (4, 0.02)):
        config = cvperf.Int8Config(weight_bits=bits)
        fast = cvperf.optimize(fit(cvperf.prepare_qat(model, config), 3, 2e-3), config)
        assert right(fast) > reached - most
