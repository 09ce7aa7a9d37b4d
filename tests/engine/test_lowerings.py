"""Every operator that our kernels serve gives torch's answer; and it is ours that ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf import engine
from cvperf.engine.steps import NativeStep


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.function(x) if y is None else self.function(x, y)


def check(function: Callable[..., Any], *inputs: Tensor, ours: bool = True) -> list[str]:
    """The plan gives what the function gives; the names of its steps."""
    captured = engine.capture(Calls(function), inputs, {})
    engine.fuse(captured.graph)
    plan = engine.plan(captured.graph, engine.Weights(), inputs)
    expected = function(*inputs)
    (answer,) = plan.run(inputs)
    assert answer.dtype == expected.dtype
    tolerance = 1e-5 if expected.dtype == torch.float32 else 2e-2
    torch.testing.assert_close(answer, expected, atol=tolerance, rtol=tolerance)
    native = all(isinstance(step, NativeStep) for step in plan.program.steps)
    assert native == ours, [step.name for step in plan.program.steps]
    return [step.name for step in plan.program.steps]


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.randn(shape or (2, 5, 9, 12)).to(dtype)
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


POOLS = [
    lambda x: F.max_pool2d(x, 3, 2, 1),
    lambda x: F.max_pool2d(x, (2, 3), ceil_mode=True),
    lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    lambda x: F.adaptive_avg_pool2d(x, 1),
    lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    lambda x: x.mean((2, 3)),
    lambda x: x.mean((-1, -2), keepdim=True),
    lambda x: F.interpolate(x, scale_factor=2.0),
    lambda x: F.interpolate(x, (5, 30), mode="bilinear"),
    lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=True),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("index", range(len(POOLS)))
def test_pooling(index: int, dtype: torch.dtype) -> None:
    check(POOLS[index], image(dtype=dtype))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), ((2, 3), 1), (5, None)])
def test_pooling_by_the_l2_norm(kernel: Any, stride: Any, ceil_mode: bool) -> None:
    """torch has no operator for it but a chain of eight, of which four are left."""
    layer = nn.LPPool2d(2, kernel, stride, ceil_mode)
    x = image(2, 5, 17, 14) * 3
    assert check(layer, x) == ["multiply", "avg_pool2d", "multiply", "sqrt"]
    captured = engine.capture(Calls(layer), (x,), {})
    engine.fuse(captured.graph)
    (answer,) = engine.plan(captured.graph, engine.Weights(), (x,)).run((x,))
    exact = F.lp_pool2d(x.double(), 2, kernel, stride, ceil_mode)
    assert ((answer - exact).abs() / exact).max() <= 1e-6


def test_what_is_near_the_l2_norm_is_taken_for_what_it_is() -> None:
    check(nn.LPPool2d(3, 2), image().abs(), ours=False)
    check(lambda x: torch.sign(x) * torch.relu(torch.abs(x + 1)), image(), ours=False)


PAIRS = [
    lambda x, y: x + y,
    lambda x, y: x * y[:, :, :1, :1],
    lambda x, y: x - y[:1],
    lambda x, y: x / (y.abs() + 1),
    lambda x, y: torch.maximum(x, y),
    lambda x, y: x * 2.5 + 1,
    lambda x, y: torch.cat([x, y, x], 1),
    lambda x, y: torch.cat([x, y], 0),
    lambda x, y: torch.cat([x[:0].flatten(), y[:0].flatten()]),
    lambda x, y: torch.cat([x[:, :, 1:], y], 2),
    lambda x, y: x.permute(0, 2, 3, 1).contiguous(),
    lambda x, y: x.view(2, 2, 3, 9, 12).transpose(1, 2).reshape(2, 6, 9, 12) + y,
    lambda x, y: x.to(torch.bfloat16),
    lambda x, y: x.flatten(1).softmax(1),
    lambda x, y: x.softmax(1),
    lambda x, y: F.log_softmax(x, dim=-1),
]


@pytest.mark.parametrize("index", range(len(PAIRS)))
def test_arithmetic_and_copies(index: int) -> None:
    check(PAIRS[index], image(2, 6, 9, 12), image(2, 6, 9, 12))


ONES: list[Callable[[Tensor], Tensor]] = [
    *(F.relu, F.relu6, F.silu, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.mish, F.elu),
    *(F.gelu, F.softplus, F.hardtanh, torch.exp, torch.neg, torch.abs),
    lambda x: F.gelu(x, approximate="tanh"),
    lambda x: F.leaky_relu(x, 0.2),
    lambda x: x.abs().sqrt(),
    lambda x: x.clamp(min=0.1),
    lambda x: F.elu(x, 0.5),
]


@pytest.mark.parametrize("index", range(len(ONES)))
def test_functions_of_each_element(index: int) -> None:
    check(ONES[index], image() * 3)
    check(ONES[index], torch.randn(3, 7)[:, 1:6])


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(6, 8, 2, stride=2),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.ConvTranspose2d(6, 6, (4, 3), stride=(2, 1), padding=1, groups=3),
        nn.ConvTranspose2d(6, 5, 3, dilation=2),
    ],
)
def test_transposed_convolutions(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    check(layer, image(2, 6, 7, 9))
    check(lambda x: layer(F.relu(x)), image(1, 6, 4, 4))


def test_what_no_kernel_takes_runs_in_torch() -> None:
    check(lambda x: F.max_pool2d(x, 2), image(dtype=torch.float64), ours=False)
    check(lambda x, y: x + y, torch.rand(3), torch.rand(3).double(), ours=False)
    check(lambda x: x.mean(1), image(), ours=False)
    check(lambda x: torch.add(x, x, alpha=2), image(), ours=False)


def test_what_depends_on_sizes_alone_is_computed_once() -> None:
    """As Swin's mask of shifted windows: made of zeros, pieces written, compared, masked."""
    places = torch.randint(9, (12,))

    def masked(x: Tensor) -> Tensor:
        mask = x.new_zeros(x.shape[2], x.shape[3])
        mask[:3] = 2
        mask[3:, 4:] = torch.arange(x.shape[3] - 4)
        mask = (mask[:, None] - mask[None]).masked_fill(mask > 1, -100.0).sum(1)
        return x + mask + torch.linspace(0, 1, 9)[places]

    assert check(masked, image()) == ["add", "add"]


def test_an_answer_that_is_computed_once_belongs_to_the_caller() -> None:
    def zeros(x: Tensor) -> Tensor:
        return x.new_zeros(3) + 1

    captured = engine.capture(Calls(zeros), (x := torch.rand(2),), {})
    plan = engine.plan(captured.graph, engine.Weights(), (x,))
    plan.run([x])[0].fill_(5)
    assert torch.equal(plan.run([x])[0], torch.ones(3))
