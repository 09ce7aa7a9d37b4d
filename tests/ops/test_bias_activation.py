"""Bias, residual and activation in one pass: the float64 reference, gradients, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.errors import ArgumentError
from cvperf.ops._activation import ACTIVATIONS

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(2, 3, 7, 9), (2, 37, 5, 5), (1, 64, 1, 1), (3, 5, 8), (70, 1001), (2, 1, 4, 4)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 5e-7, torch.float64: 1e-14}


def tensors(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> tuple[Tensor, Tensor, Tensor]:
    x, bias, residual = torch.randn(shape), torch.randn(shape[1]), torch.randn(shape)
    x = x.contiguous(memory_format=layout) if len(shape) == 4 else x
    return x.to(dtype), bias.to(dtype), residual.to(dtype)


def assert_close(found: Tensor, exact: Tensor) -> None:
    error = (found.double() - exact).abs().max() / exact.abs().max()
    assert error <= ROUNDING[found.dtype], f"relative error {error:.1e}"


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_float64(
    isa: str, layout: torch.memory_format, dtype: torch.dtype, activation: str | None
) -> None:
    for shape in SHAPES:
        x, bias, residual = tensors(shape, dtype, layout)
        wide = (x.double(), bias.double(), residual.double())
        found = ops.bias_activation(x, bias, residual, activation)
        assert_close(found, reference.bias_activation(*wide, activation))
        assert found.stride() == x.stride()
        found = ops.bias_activation(x, bias, activation=activation)
        assert_close(found, reference.bias_activation(*wide[:2], None, activation))
        found = ops.bias_activation(x, None, activation=activation)
        assert_close(found, reference.bias_activation(wide[0], None, None, activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays_nan(isa: str, activation: str) -> None:
    x = torch.full((3, 40), float("nan"))
    assert ops.bias_activation(x, torch.zeros(40), None, activation).isnan().all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_larger_than_the_caches_are_whole(isa: str, layout: torch.memory_format) -> None:
    """From 24 MB on they are stored past the caches."""
    x, bias, residual = tensors((1, 37, 301, 301), torch.float32, layout)
    exact = (x + bias.view(-1, 1, 1) + residual).relu()
    assert torch.equal(ops.bias_activation(x, bias, residual, "relu"), exact)


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    x, bias, residual = tensors((2, 24, 40, 41), torch.float32, torch.channels_last)
    answers = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        answers.append(ops.bias_activation(x, bias, residual, "silu"))
    torch.set_num_threads(2)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_empty_input_gives_an_empty_answer(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert ops.bias_activation(x, torch.randn(shape[1]), x, "relu").shape == shape


def test_other_layouts_are_copied() -> None:
    x = torch.randn(4, 9, 6, 10)[:, ::2, :, 1:]
    residual = torch.randn(4, 5, 6, 9).contiguous(memory_format=torch.channels_last)
    found = ops.bias_activation(x, torch.arange(5.0), residual, "relu")
    assert torch.equal(found, (x + torch.arange(5.0).view(-1, 1, 1) + residual).relu())


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_first_and_second_order(
    layout: torch.memory_format, activation: str | None
) -> None:
    inputs = tensors((2, 3, 3, 2), torch.float64, layout)
    for each in inputs:
        each.requires_grad_()

    def run(x: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        return ops.bias_activation(x, bias, residual, activation)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_and_compile(layout: torch.memory_format) -> None:
    x, bias, residual = tensors((2, 3, 4, 5), torch.float32, layout)
    x.requires_grad_()
    for arguments in ((x, bias, residual, "silu"), (x, None, None, "relu"), (x, bias, None, None)):
        torch.library.opcheck(torch.ops.cvperf.bias_activation.default, arguments)

    def run(x: Tensor) -> Tensor:
        return ops.bias_activation(x * 2, bias, residual, "relu")

    assert torch.equal(torch.compile(run, fullgraph=True, backend="aot_eager")(x), run(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(3)}, r"x must be x\[N, C\]"),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, "x must be .* got int32"),
        ({"bias": torch.rand(4)}, "one number a channel"),
        ({"bias": torch.rand(3).double()}, "bias and x must have the same dtype"),
        ({"residual": torch.rand(2, 3, 1, 1)}, "residual must have the shape of x"),
        ({"residual": torch.rand(2, 3, 4, 4).half()}, "residual and x must have the same dtype"),
        ({"activation": "gelu"}, "activation must be None or one of relu"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.rand(2, 3, 4, 4), "bias": torch.rand(3)}
    with pytest.raises(ArgumentError, match=message):
        ops.bias_activation(**{**arguments, **change})


@pytest.mark.parametrize("change", [{"x": 1.0}, {"bias": [1.0]}, {"residual": 3},
                                    {"activation": torch.relu}])  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(change))):
        ops.bias_activation(**{"x": torch.rand(2, 3), "bias": torch.rand(3), **change})
