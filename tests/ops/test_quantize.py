"""Quantising as torch does it, bit for bit, and back."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.errors import ArgumentError

BYTES = [torch.int8, torch.uint8]
FLOATS = [torch.float16, torch.bfloat16, torch.float32]
SHAPES = [(2, 3, 7, 9), (2, 37, 5, 5), (1, 64, 1, 1), (70, 1001), (5, 1, 4, 4), (12,)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


def torchs(x: Tensor, scale: Tensor, zero: Tensor, axis: int | None, dtype: torch.dtype) -> Tensor:
    kind = {torch.int8: torch.qint8, torch.uint8: torch.quint8}[dtype]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quantised tensors are to leave torch
        if axis is None:
            return torch.quantize_per_tensor(x, scale.item(), int(zero.item()), kind).int_repr()
        return torch.quantize_per_channel(x, scale, zero, axis, kind).int_repr()


def parameters(shape: tuple[int, ...], axis: int | None) -> tuple[Tensor, Tensor]:
    count = 1 if axis is None else shape[axis]
    return torch.rand(count) * 0.05 + 0.01, torch.randint(0, 50, (count,), dtype=torch.int32)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_has_torchs_bits(
    isa: str, axis: int | None, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    for shape in SHAPES:
        if axis is not None and axis >= len(shape):
            continue
        x = laid_out(4 * torch.randn(shape), layout)
        scale, zero = parameters(shape, axis)
        found = ops.quantize(x, scale, zero, axis=axis, dtype=dtype)
        assert torch.equal(found, torchs(x, scale, zero, axis, dtype)), f"{shape}"
        assert found.stride() == x.stride()


@pytest.mark.parametrize("x_dtype", FLOATS)
@pytest.mark.parametrize("dtype", BYTES)
def test_agrees_with_float64_but_for_ties(
    isa: str, dtype: torch.dtype, x_dtype: torch.dtype
) -> None:
    x = (3 * torch.randn(50, 33)).to(x_dtype)
    scale, zero = parameters(x.shape, 1)
    found = ops.quantize(x, scale, zero, axis=-1, dtype=dtype)
    expected = reference.quantize(x, scale, zero, 1, dtype)
    steps = x.double() / scale.double()
    tie = ((steps - steps.floor()) - 0.5).abs() < 1e-4
    assert torch.equal(found[~tie], expected[~tie])
    assert (found.int() - expected.int()).abs().max() <= 1


def test_rounds_half_to_even_and_saturates(isa: str) -> None:
    inf = math.inf
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 3e9, -3e9, inf, -inf, math.nan]).repeat(7)
    assert ops.quantize(x, 1.0, 3)[:10].tolist() == [3, 5, 5, 3, 1, 127, -128, 127, -128, -128]
    found = ops.quantize(x, 1.0, 3, dtype=torch.uint8)
    assert found[:10].tolist() == [3, 5, 5, 3, 1, 255, 0, 255, 0, 0]
    assert torch.equal(found.view(7, 10), found[:10].expand(7, 10))


@pytest.mark.parametrize("out", FLOATS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_dequantize_agrees_with_float64(
    isa: str, axis: int | None, dtype: torch.dtype, out: torch.dtype
) -> None:
    rounding = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-7}[out]
    for shape in SHAPES[:-1]:
        for layout in LAYOUTS:
            q = laid_out(torch.randint(-128, 128, shape).to(torch.int8).view(dtype), layout)
            scale, zero = parameters(shape, axis)
            found = ops.dequantize(q, scale, zero, axis=axis, dtype=out)
            exact = reference.dequantize(q, scale, zero, axis, torch.float64)
            error = (found.double() - exact).abs().max() / exact.abs().max()
            assert error <= rounding, f"{shape}: {error:.1e}"
            assert (found.dtype, found.stride()) == (out, q.stride())


def test_every_byte_comes_back(isa: str) -> None:
    for dtype in BYTES:
        q = torch.arange(256, dtype=torch.uint8).view(dtype)
        for zero in (0, 17):
            back = ops.quantize(ops.dequantize(q, 0.3, zero), 0.3, zero, dtype=dtype)
            assert torch.equal(back, q)


def test_one_scale_with_a_zero_point_each_and_the_reverse() -> None:
    x, scale, zero = torch.randn(6, 40), torch.rand(40) + 0.1, torch.arange(40, dtype=torch.int32)
    for one, other in ((0.1, zero), (scale, 3), (torch.tensor(0.1), zero), (scale, zero[:1])):
        found = ops.quantize(x, one, other, axis=1)
        each = [torch.as_tensor(part).expand(40) for part in (one, other)]
        assert torch.equal(found, ops.quantize(x, each[0], each[1].int(), axis=1))
        back = ops.dequantize(found, one, other, axis=1)
        assert torch.equal(back, ops.dequantize(found, each[0], each[1].int(), axis=1))


def test_large_outputs_and_threads() -> None:
    q = torch.randint(0, 256, (3, 1999, 1001), dtype=torch.uint8)
    answers = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        answers.append(ops.dequantize(q, 0.5, 7))
    torch.set_num_threads(2)
    assert all(torch.equal(each, (q.float() - 7) * 0.5) for each in answers)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (2, 3, 0, 4)], ids=str)
def test_empty_input_gives_an_empty_answer(shape: tuple[int, ...]) -> None:
    for axis in (None, 0):
        scale, zero = parameters(shape, axis)
        q = ops.quantize(torch.randn(shape), scale, zero, axis=axis)
        assert q.shape == ops.dequantize(q, scale, zero, axis=axis).shape == shape


def test_scalars_and_other_layouts_are_served() -> None:
    assert ops.quantize(torch.tensor(1.4), 0.5).item() == 3
    x = torch.randn(4, 9, 6, 10)[:, ::2, :, 1:]
    scale = torch.rand(5) + 0.1
    assert torch.equal(ops.quantize(x, scale, axis=1), ops.quantize(x.contiguous(), scale, axis=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(2, 3).double()}, "x must be .* got float64"),
        ({"scale": 0.0}, "scale must be above 0 and finite, got 0.0"),
        ({"scale": math.inf}, "scale must be above 0"),
        ({"scale": math.nan}, "scale is NaN"),
        ({"scale": torch.rand(3)}, "say its axis"),
        ({"scale": torch.rand(4), "axis": 1}, r"scale must be a scalar, \[1\] or \[3\]"),
        ({"scale": torch.rand(3).double(), "axis": 1}, "scale must be .* of one of float32"),
        ({"zero_point": 128}, "zero_point must be a value of int8, -128 to 127; got 128"),
        ({"zero_point": torch.zeros(1)}, "zero_point must be .* of one of int32"),
        ({"axis": 2}, "axis must be a dimension of x, .*; got 2"),
        ({"dtype": torch.int32}, "dtype must be one of int8, uint8"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ops.quantize(**{"x": torch.rand(2, 3), "scale": 0.1, **change})


def test_bad_input_of_dequantize_is_refused() -> None:
    q = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(ArgumentError, match=r"q must be .* got float32"):
        ops.dequantize(q.float(), 0.1)
    with pytest.raises(ArgumentError, match="zero_point must be a value of uint8"):
        ops.dequantize(q, 0.1, -1)
    with pytest.raises(ArgumentError, match="dtype must be one of float16"):
        ops.dequantize(q, 0.1, dtype=torch.float64)


@pytest.mark.parametrize("change", [{"x": 1.0}, {"scale": "one"}, {"zero_point": 0.5},
                                    {"axis": 1.0}, {"dtype": "int8"}])  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(change))):
        ops.quantize(**{"x": torch.rand(2, 3), "scale": 0.1, **change})


def test_opcheck_and_compile() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    scale, zero = parameters(x.shape, 1)
    q = ops.quantize(x, scale, zero, axis=1)
    torch.library.opcheck(torch.ops.cvperf.quantize.default, (x, scale, zero, 1, torch.int8))
    torch.library.opcheck(torch.ops.cvperf.dequantize.default, (q, scale, zero, 1, torch.float32))

    def there_and_back(x: Tensor) -> Tensor:
        return ops.dequantize(ops.quantize(x * 2, 0.1, 3), 0.1, 3)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), there_and_back(x))
