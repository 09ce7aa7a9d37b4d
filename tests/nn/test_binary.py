"""Layers of one bit: torch's gradients, the same answers on bits, and plans of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cvperf
from cvperf import engine
from cvperf.engine.passes.binary import CONV2D_BINARY
from cvperf.errors import ArgumentError
from cvperf.nn import BinaryConv2d, BinaryLinear, clip_latent_weights, sign

LAYERS = [
    lambda: (BinaryConv2d(40, 20, 3, stride=2, padding=1), torch.randn(2, 40, 9, 8)),
    lambda: (BinaryConv2d(7, 33, (2, 3), dilation=(1, 2), bias=False), torch.randn(3, 7, 6, 9)),
    lambda: (BinaryConv2d(64, 16, 1), torch.randn(1, 64, 4, 4)),
    lambda: (BinaryLinear(50, 12), torch.randn(5, 50)),
    lambda: (BinaryLinear(33, 1, bias=False), torch.randn(2, 3, 33)),
    lambda: (BinaryLinear(8, 4), torch.randn(8)),
]
each_layer = pytest.mark.parametrize("index", range(len(LAYERS)))


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def by_hand(layer: nn.Module, x: Tensor) -> Tensor:
    """The formula in float64."""
    x, weight = signs(x.detach().double()).double(), layer.weight.detach().double()
    scale = weight.abs().flatten(1).mean(1)
    if isinstance(layer, BinaryLinear):
        y = F.linear(x, signs(weight).double()) * scale
        return y if layer.bias is None else y + layer.bias.detach().double()
    window = (layer.stride, layer.padding, layer.dilation)
    y = F.conv2d(x, signs(weight).double(), None, *window) * scale.view(-1, 1, 1)
    return y if layer.bias is None else y + layer.bias.detach().double().view(-1, 1, 1)


@each_layer
def test_answers_in_training_on_bits_and_in_a_plan(isa: str, index: int) -> None:
    layer, x = LAYERS[index]()
    expected = by_hand(layer, x).float()
    torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-6, atol=1e-5)
    layer.eval()
    with torch.no_grad():
        on_bits = layer(x)
    torch.testing.assert_close(on_bits, expected, rtol=1e-6, atol=1e-5)
    fast = cvperf.optimize(layer)
    assert torch.equal(fast(x), on_bits)
    (plan,) = fast.explain().plans
    assert plan.ours.get("conv2d_binary") == plan.ours.get("pack_bits") == 1
    assert not plan.torch


def test_the_sign_has_its_gradient_within_one() -> None:
    x = torch.tensor([-1.5, -1.0, -0.3, -0.0, 0.0, 0.9, 1.0, 1.1, torch.nan], requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1, -1]
    y.backward(torch.arange(1.0, 10.0))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0, 0]
    assert sign(torch.ones(2).bfloat16()).dtype == torch.bfloat16


@each_layer
def test_gradients(index: int) -> None:
    """Those of the formula whose signs are the identity within one, worked out by hand."""
    layer, x = LAYERS[index]()
    layer, x = layer.double(), x.double().requires_grad_()
    with torch.no_grad():
        layer.weight.mul_(32)  # some beyond 1
    y = layer(x)
    grad = torch.randn_like(y)
    y.backward(grad)
    is_linear = isinstance(layer, BinaryLinear)
    dims = (-1,) if is_linear else (-1, 1, 1)
    weight = layer.weight.detach()
    size, numbers = weight.abs().flatten(1).mean(1), weight[0].numel()

    def product(x: Tensor, weight: Tensor) -> Tensor:
        if is_linear:
            return F.linear(x, weight)
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation)

    plain, kernel = signs(x.detach()).double(), signs(weight).double()
    sums = product(plain.requires_grad_(), kernel.requires_grad_())
    to_x, to_kernel = torch.autograd.grad(sums, (plain, kernel), grad * size.view(dims))
    channel = -1 if is_linear else 1
    to_size = (grad * sums.detach()).movedim(channel, 0).reshape(len(size), -1).sum(1)
    shape = (-1, *[1] * (weight.dim() - 1))
    expected = to_kernel * (weight.abs() <= 1) + (to_size / numbers).view(shape) * weight.sign()
    assert (weight.abs() > 1).any()
    torch.testing.assert_close(layer.weight.grad, expected)
    torch.testing.assert_close(x.grad, to_x * (x.detach().abs() <= 1))
    if layer.bias is not None:
        to_bias = grad.movedim(channel, 0).reshape(len(size), -1).sum(1)
        torch.testing.assert_close(layer.bias.grad, to_bias)


def test_gradients_in_evaluation_mode_too() -> None:
    layer = BinaryConv2d(8, 4, 3).eval()
    layer(torch.randn(1, 8, 5, 5)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_latent_weights_are_clipped() -> None:
    model = nn.Sequential(BinaryConv2d(3, 4, 3), nn.Conv2d(4, 4, 1), BinaryLinear(3, 3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(3)
    clip_latent_weights(model)
    kept = [model[0].bias, model[1].weight, model[1].bias, model[2].bias]
    assert all(bool((each == 3).all()) for each in kept)
    assert all(bool((each.weight == 1).all()) for each in (model[0], model[2]))


class Block(nn.Module):
    """Batch norms around binary layers, and what follows them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, padding=1)
        self.before, self.between, self.behind = (nn.BatchNorm2d(20) for _ in range(3))
        self.first = BinaryConv2d(20, 20, 3, padding=1, bias=False)
        self.second = BinaryConv2d(20, 20, 3, stride=2, padding=1)
        self.middle = BinaryLinear(20, 40)
        self.head = nn.Linear(40, 5)
        for norm in (self.before, self.between, self.behind):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.stem(x))
        x = self.between(self.first(x)) + x
        x = self.behind(self.second(x)).relu()
        return self.head(self.middle(x.mean((2, 3)) - 1))


def nodes_of(model: nn.Module, x: Tensor) -> list[str]:
    captured = engine.capture(model, (x,), {})
    engine.fuse(captured.graph)
    return [str(node.target) for node in captured.graph.graph.nodes if node.op == "call_function"]


def test_a_plan_packs_weights_once_and_folds_what_is_around_them() -> None:
    model, x = Block().eval(), torch.randn(2, 3, 10, 10)
    names = nodes_of(model, x)
    assert names.count(str(CONV2D_BINARY)) == 3
    for gone in ("pack_conv2d_binary", "batch_norm", "abs", "relu"):
        assert not [name for name in names if gone in name], names
    assert len([name for name in names if "mean" in name]) == 1  # that of the image
    fast = cvperf.optimize(model)
    with torch.no_grad():
        expected = model(x)
    torch.testing.assert_close(fast(x), expected, rtol=1e-4, atol=1e-4)
    (plan,) = fast.explain().plans
    assert plan.ours["conv2d_binary"] == plan.ours["pack_bits"] == 3
    assert not plan.torch
    fixed = [each for step in fast._plans.popitem()[1][1].program.steps for each in step.read]
    bits = [each for each in fixed if each is not None and each.dtype == torch.int32]
    held = sum(each.buffer.tensor.nbytes for each in bits if each.buffer.tensor is not None)
    assert held == 2 * 32 * 9 * 4 + 48 * 4  # a bit a number, channels and filters rounded up


def test_a_layer_of_which_another_reads_the_sums_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = BinaryConv2d(8, 8, 3), nn.BatchNorm2d(8)
            self.norm.running_mean.normal_()

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return self.norm(y) + y.relu()

    model, x = Twice().eval(), torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(cvperf.optimize(model)(x), model(x), rtol=1e-5, atol=1e-5)


def test_other_sizes_and_configurations() -> None:
    model = Block().eval()
    fast = cvperf.optimize(model, example_inputs=torch.randn(2, 3, 10, 10))
    for size in ((3, 3, 10, 10), (2, 3, 16, 12), (1, 3, 10, 10)):
        x = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    x = torch.randn(2, 3, 10, 10)
    layer = nn.Sequential(nn.BatchNorm2d(3), BinaryConv2d(3, 8, 3), nn.ReLU6()).eval()
    narrow = cvperf.optimize(layer, cvperf.Bf16Config())
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), layer(x), rtol=1e-2, atol=1e-2)
    (plan,) = narrow.explain().plans
    assert plan.ours["conv2d_binary"] == 1
    half = layer.bfloat16()
    with torch.no_grad():
        expected = half(x.bfloat16())
    assert expected.dtype == torch.bfloat16
    torch.testing.assert_close(cvperf.optimize(half)(x.bfloat16()), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BinaryConv2d(0, 1, 1), "in_channels must be at least 1, got 0"),
        (lambda: BinaryConv2d(1, 1, 0), "kernel_size must be at least 1"),
        (lambda: BinaryConv2d(1, 1, 1, padding=-1), "padding must be at least 0"),
        (lambda: BinaryLinear(1, 0), "out_features must be at least 1"),
        (lambda: BinaryConv2d(3, 4, 1)(torch.ones(1, 4, 2, 2)), "with 3 channels, got float32"),
        (lambda: BinaryConv2d(3, 4, 1)(torch.ones(3, 2, 2)), r"x must be x\[N, C, H, W\]"),
        (lambda: BinaryLinear(3, 4)(torch.ones(3).double()), "x and weight must have the same"),
    ],
)
def test_bad_sizes_are_refused(make, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
    with pytest.raises(TypeError, match="in_channels must be an int"):
        BinaryConv2d(1.0, 1, 1)  # type: ignore[arg-type]
