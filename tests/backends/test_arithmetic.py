"""Arithmetic, functions of an element, quantising and softmax, against float64 and torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf import _C, ops
from cvperf.backends.cpu.arithmetic import binary, dequantize, quantize, scalar, softmax, unary
from cvperf.backends.cpu.strides import Ints, dense_strides
from cvperf.errors import ArgumentError, UnsupportedError
from tests.backends.planned import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    FLOATS,
    laid_out,
    layout,
    written,
)

KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "reverse_subtract": lambda a, b: b - a,
    "reverse_divide": lambda a, b: b / a,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
}
# Half a unit in the last place, of the largest number of its binade.
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SMALLEST = {torch.float32: 1.2e-38, torch.float16: 6e-8, torch.bfloat16: 1.2e-38}


def assert_close(
    found: Tensor, exact: Tensor, units: float | Tensor, what: str, least: float = 0
) -> None:
    """Within so many units of float32, and the rounding to the dtype."""
    exact = torch.where(exact.abs() > torch.finfo(found.dtype).max, exact * math.inf, exact)
    assert torch.equal(found.isinf(), exact.isinf()), what
    slack = ROUNDING[found.dtype] + 2 * units * ROUNDING[torch.float32]
    allowed = exact.abs() * slack + max(SMALLEST[found.dtype], least)
    error = (found.double() - exact).abs()
    worst = (error / allowed).nan_to_num(0).max() if error.numel() else 0
    assert worst <= 1, f"{what}: {worst:.2f} of what is allowed"
    assert torch.equal(found.isnan(), exact.isnan()), what


def random(shape: Ints, dtype: torch.dtype) -> Tensor:
    return (torch.randn(shape) + 0.01).to(dtype)


def pairs(dtype: torch.dtype) -> list[tuple[Tensor, Tensor, Ints]]:
    """Operands, and the order of the output."""
    last, first = CHANNELS_LAST, CHANNELS_FIRST
    image = laid_out(random((2, 37, 9, 31), dtype), last)
    wide = laid_out(random((2, 200, 13, 17), dtype), last)
    plain = random((2, 37, 9, 31), dtype)
    three = laid_out(random((2, 3, 40, 50), dtype), last)
    return [
        (image, laid_out(random((2, 37, 9, 31), dtype), last), last),
        (plain, random((2, 37, 9, 31), dtype), first),
        (image, random((37, 1, 1), dtype), last),
        (random((1, 200, 1, 1), dtype), wide, last),
        (plain, random((37, 1, 1), dtype), first),
        (image, random((2, 37, 1, 1), dtype), last),
        (wide, random((2, 200, 1, 1), dtype), last),
        (plain, random((2, 37, 1, 1), dtype), first),
        (three, random((3, 1, 1), dtype), last),
        (three, random((2, 1, 40, 50), dtype), last),
        (image, plain, last),
        (plain, image, first),
        (image[:, ::2], plain[:, 1:20], last),
        (random((5, 1, 7), dtype), random((6, 1), dtype), (0, 1, 2)),
        (random((), dtype), random((1,), dtype), (0,)),
        (random((2, 1, 1500), dtype), random((3, 1500, 2), dtype)[..., 0], (0, 1, 2)),
        (random((9,), dtype), random((8, 1), dtype), (1, 0)),
    ]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_binary(isa: str, kind: str, dtype: torch.dtype) -> None:
    for a, b, order in pairs(dtype):
        call, shape = binary(kind, layout(a), layout(b), order, dtype)
        found = written(call, [a, b], shape, dense_strides(shape, order), dtype)
        expected = KINDS[kind](a.float(), b.float()).to(dtype)
        assert torch.equal(found, expected), f"{layout(a)} {layout(b)}"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_of_a_sum(isa: str, activation: str, dtype: torch.dtype) -> None:
    for a, b, order in pairs(dtype)[:6]:
        call, shape = binary("add", layout(a), layout(b), order, dtype, activation)
        found = written(call, [a, b], shape, dense_strides(shape, order), dtype)
        exact = ACTIVATIONS[activation](a.float().add(b.float()).double())
        assert_close(found, exact, 4, f"{layout(a)} {layout(b)}", least=2e-7)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_scalar(isa: str, kind: str, dtype: torch.dtype) -> None:
    for shape in ((2, 3, 5, 7), (3, 100, 40, 11)):
        for order in (CHANNELS_FIRST, CHANNELS_LAST):
            a = laid_out(random(shape, dtype), order)
            call, _ = scalar(kind, *layout(a), 0.3, dtype, "relu")
            found = written(call, [a], shape, a.stride(), dtype)
            assert torch.equal(found, KINDS[kind](a.float(), torch.tensor(0.3)).relu().to(dtype))


def test_maximum_and_minimum_keep_nan(isa: str) -> None:
    nan, inf = math.nan, math.inf
    a = torch.tensor([1.0, nan, nan, inf, -inf]).repeat(9)
    b = torch.tensor([nan, 1.0, nan, -inf, 2.0]).repeat(9)
    for kind, of in (("maximum", torch.maximum), ("minimum", torch.minimum)):
        call, shape = binary(kind, layout(a), layout(b), (0,), torch.float32)
        found = written(call, [a, b], shape, (1,), torch.float32)
        assert torch.equal(found.nan_to_num(77.0), of(a, b).nan_to_num(77.0))


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(torch.log1p(x.exp()))


def normal_share(x: Tensor) -> Tensor:
    return x * torch.special.erfc(-x / math.sqrt(2)) / 2


def gelu_by_tanh(x: Tensor) -> Tensor:
    return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))


Function = Callable[[Tensor], Tensor]

# The function in float64, parameters, units in the last place of float32 it may be off. Those of
# gelu grow with the exponent that its negative side is computed with.
FUNCTIONS: dict[str, tuple[Function, tuple[float, ...], float | Function]] = {
    "relu": (F.relu, (), 0),
    "relu6": (F.relu6, (), 0),
    "silu": (F.silu, (), 3),
    "hardswish": (F.hardswish, (), 2),
    "hardsigmoid": (F.hardsigmoid, (), 1),
    "sigmoid": (torch.sigmoid, (), 3),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), (0.2,), 1),
    "tanh": (torch.tanh, (), 2),
    "gelu": (normal_share, (), lambda x: 4 + x * x),
    "gelu_tanh": (gelu_by_tanh, (), lambda x: 4 + 4 * x.abs() + 0.3 * x.abs() ** 3),
    "elu": (lambda x: 0.7 * F.elu(x, 1.5), (1.5, 0.7), 4),
    "exp": (torch.exp, (), 2),
    "sqrt": (torch.sqrt, (), 0),
    "rsqrt": (torch.rsqrt, (), 1),
    "reciprocal": (torch.reciprocal, (), 0),
    "neg": (torch.neg, (), 0),
    "abs": (torch.abs, (), 0),
    "clamp": (lambda x: x.clamp(-0.5, 1.25), (-0.5, 1.25), 0),
    "softplus": (lambda x: torch.where(2 * x > 20, x, (2 * x).exp().log1p() / 2), (2, 20), 3),
    "mish": (mish, (), 4),
}


def units_at(units: float | Function, x: Tensor) -> Tensor:
    return units(x.double()) if callable(units) else torch.full(x.shape, units).double()


def test_every_function_is_tested() -> None:
    assert set(FUNCTIONS) == set(_C.Unary.__members__)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_unary(isa: str, kind: str, dtype: torch.dtype) -> None:
    of, parameters, units = FUNCTIONS[kind]
    for count in (1, 5, 1001, 40001):
        x = torch.cat((torch.randn(count // 2), torch.randn(count - count // 2) * 4)).to(dtype)
        call, shape = unary(kind, *layout(x), dtype, *parameters)
        found = written(call, [x], shape, (1,), dtype)
        assert_close(found, of(x.double()), units_at(units, x), f"{count}", least=1e-37)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_unary_of_large_and_special_numbers(isa: str, kind: str) -> None:
    x = torch.tensor([0.0, -0.0, 30, -30, 80, -80, 1e4, -1e4, math.inf, math.nan, 1e-6, -1e-6])
    of, parameters, units = FUNCTIONS[kind]
    call, shape = unary(kind, *layout(x), torch.float32, *parameters)
    found = written(call, [x], shape, (1,), torch.float32)
    exact = of(x.double())
    known = exact.isfinite() & (exact.abs() < 3e38)
    # Where e^x is far from 1, a rounding of its exponent is as many units as the exponent is large.
    allowed = units_at(units, x)[known] + 60
    assert_close(found[known], exact[known], allowed, "", least=1e-30)
    assert torch.equal(found.isnan(), exact.isnan())
    assert torch.equal(found[~known].isinf(), ~exact[~known].isnan())


@pytest.mark.parametrize("kind", ["tanh", "elu", "softplus", "mish", "gelu", "gelu_tanh"])
def test_unary_is_as_exact_near_zero(isa: str, kind: str) -> None:
    of, parameters, units = FUNCTIONS[kind]
    x = torch.linspace(-1, 1, 20011) ** 5
    call, shape = unary(kind, *layout(x), torch.float32, *parameters)
    found = written(call, [x], shape, (1,), torch.float32)
    assert_close(found, of(x.double()), units_at(units, x), "")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("byte", [torch.int8, torch.uint8])
def test_quantize_and_back_are_the_ops(isa: str, byte: torch.dtype, dtype: torch.dtype) -> None:
    for shape in ((1, 1, 1, 1), (2, 3, 5, 7), (3, 64, 20, 30)):
        x = laid_out(random(shape, dtype), CHANNELS_LAST)
        call, _ = quantize(*layout(x), dtype, 0.03, 5, byte)
        q = written(call, [x], shape, x.stride(), byte)
        assert torch.equal(q, ops.quantize(x, 0.03, 5, dtype=byte))
        call, _ = dequantize(*layout(q), byte, 0.03, 5, dtype)
        back = written(call, [q], shape, q.stride(), dtype)
        assert torch.equal(back, ops.dequantize(q, 0.03, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("logarithm", [False, True])
def test_softmax(isa: str, logarithm: bool, dtype: torch.dtype) -> None:
    shapes = [(3, 1000), (70, 2), (33, 21), (5, 63), (5, 64), (4, 101), (1, 1), (9, 1)]
    cases = [(random(shape, dtype) * 4, dim) for shape in shapes for dim in (0, 1)]
    for order in (CHANNELS_FIRST, CHANNELS_LAST):
        cases += [(laid_out(random((2, 21, 17, 19), dtype) * 4, order), dim) for dim in range(4)]
        cases += [(laid_out(random((1, 150, 9, 1), dtype), order), 1)]
    for x, dim in cases:
        call, shape = softmax(*layout(x), dim, dtype, logarithm)
        found = written(call, [x], shape, x.stride(), dtype)
        exact = (torch.log_softmax if logarithm else torch.softmax)(x.double(), dim)
        # The logarithm is a difference of numbers of up to 20.
        assert_close(found, exact, 12, f"{layout(x)} {dim}", least=4e-6 if logarithm else 1e-7)


def test_softmax_of_special_numbers(isa: str) -> None:
    inf, nan = math.inf, math.nan
    for count in (5, 70):
        x = torch.zeros(7, count)
        x[0, 1], x[1, 2], x[2, 4], x[3, 0] = -inf, inf, nan, 1e30
        x[4] = -inf
        for tensor, dim in ((x, 1), (x.t().contiguous(), 0)):
            for logarithm, of in ((False, torch.softmax), (True, torch.log_softmax)):
                call, shape = softmax(*layout(tensor), dim, torch.float32, logarithm)
                found = written(call, [tensor], shape, tensor.stride(), torch.float32)
                torch.testing.assert_close(found, of(tensor, dim), equal_nan=True)


def test_large_outputs_go_past_the_caches(isa: str) -> None:
    a, b = torch.randn(5 << 20)[3:], torch.randn(5 << 20)[5:]
    a, b = a[: len(b)], b[: len(a)]
    call, shape = binary("add", layout(a), layout(b), (0,), torch.float32)
    assert torch.equal(written(call, [a, b], shape, (1,), torch.float32), a + b)
    call, shape = unary("neg", *layout(a), torch.float32)
    assert torch.equal(written(call, [a], shape, (1,), torch.float32), -a)


def test_in_place(isa: str) -> None:
    for dtype in FLOATS:
        a, b = random((50000,), dtype), random((50000,), dtype)
        expected = (a.float() + b.float()).to(dtype)
        call, _ = binary("add", layout(a), layout(b), (0,), dtype)
        call([a.data_ptr(), b.data_ptr()], b.data_ptr(), 2)
        assert torch.equal(b, expected)


def test_empty(isa: str) -> None:
    memory = torch.empty(1)
    for shape in ((0,), (2, 0, 3), (0, 4)):
        steps = dense_strides(shape, tuple(range(len(shape))))
        one = (shape, steps, torch.float32)
        for call, _ in (
            unary("relu", *one),
            scalar("add", shape, steps, 1.0, torch.float32),
            softmax(shape, steps, 0, torch.float32),
            quantize(*one, 0.1, 0, torch.int8),
            dequantize(shape, steps, torch.int8, 0.1, 0, torch.float32),
        ):
            call([memory.data_ptr()], memory.data_ptr(), 2)
        order = tuple(range(len(shape)))
        call, found = binary("add", (shape, steps), ((1,), (1,)), order, torch.float32)
        assert found == shape
        call([memory.data_ptr()] * 2, memory.data_ptr(), 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda f: unary("sin", *f), UnsupportedError, "kind must be one of relu, .*got 'sin'"),
        (
            lambda f: unary("relu", *f[:2], torch.float64),
            UnsupportedError,
            r"unary has dtype torch\.float64, expected one of float32",
        ),
        (
            lambda f: unary("relu", (2, 3), (6, 2), torch.float32),
            ArgumentError,
            r"without gaps; got shape \[2, 3\] with strides \[6, 2\]",
        ),
        (
            lambda f: binary("add", f[:2], ((4,), (1,)), (0, 1), torch.float32),
            ArgumentError,
            r"shapes \[2, 3\] and \[4\] do not broadcast",
        ),
        (
            lambda f: binary("add", f[:2], f[:2], (0, 1), torch.float32, "gelu"),
            UnsupportedError,
            "activation must be one of none",
        ),
        (lambda f: softmax(*f[:2], 2, torch.float32), ArgumentError, "dim must be a dimension"),
        (
            lambda f: quantize(*f, 0.1, 0, torch.float32),
            UnsupportedError,
            "expected one of int8, uint8",
        ),
    ],
)
def test_what_is_refused(make: Callable[[Any], object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make(((2, 3), (3, 1), torch.float32))


def test_five_dimensions_that_do_not_merge_are_refused() -> None:
    shape = (2, 3, 2, 3, 2)
    steps = dense_strides(shape, (4, 3, 2, 1, 0))
    plain = dense_strides(shape, (0, 1, 2, 3, 4))
    with pytest.raises(UnsupportedError, match="5 dimensions that do not merge, more than 4"):
        binary("add", (shape, plain), (shape, steps), (0, 1, 2, 3, 4), torch.float32)
