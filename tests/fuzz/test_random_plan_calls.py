"""What stands between a plan's convolutions, on random shapes: torch's answer, or an error before
native code. As test_random_calls.py, this runs once more under AddressSanitizer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu import arithmetic, copies
from cvperf.backends.cpu.interpolate import interpolate_call
from cvperf.backends.cpu.pool2d import (
    adaptive_avg_pool2d_call,
    avg_pool2d_call,
    avg_pool2d_int8_call,
    max_pool2d_call,
)
from cvperf.backends.cpu.run import run
from cvperf.errors import ArgumentError
from tests.fuzz.test_random_calls import (
    TOLERANCE,
    isas,
    random_calls,
    restored_isa,  # noqa: F401 (a fixture)
    seeds,
    short,
)

LAST = (0, 2, 3, 1)
sizes = st.tuples(
    st.integers(0, 3),
    st.sampled_from([1, 2, 3, 7, 16, 17, 33]),
    st.integers(1, 9),
    st.integers(1, 9),
)
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


def image_of(size: Sequence[int], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(tuple(size), generator=generator)
    return numbers.to(dtype).contiguous(memory_format=torch.channels_last)


def answer(made: tuple[_C.Call, tuple[int, ...]], read: Sequence[Tensor], expected: Tensor) -> None:
    """The call writes what torch gives."""
    call, shape = made
    assert tuple(shape) == tuple(expected.shape)
    format = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    output = torch.empty(shape, dtype=expected.dtype, memory_format=format)
    run(call, read, output)
    tolerance = TOLERANCE.get(expected.dtype, 0)
    torch.testing.assert_close(output, expected, atol=4 * tolerance, rtol=tolerance, equal_nan=True)


@random_calls
@given(isas, sizes, pairs, pairs, pairs, st.booleans(), st.booleans(), short, seeds)
def test_pools(isa, size, kernel, stride, dilation, ceil, counted, dtype, seed) -> None:
    _C.select_isa(isa)
    image = image_of(size, dtype, seed)
    padding = (kernel[0] // 2, kernel[1] // 3)
    for made, expected in (
        (
            lambda: max_pool2d_call(size, kernel, stride, padding, dilation, ceil, dtype),
            lambda: F.max_pool2d(image, kernel, stride, padding, dilation, ceil),
        ),
        (
            lambda: avg_pool2d_call(size, kernel, stride, padding, ceil, counted, None, dtype),
            lambda: F.avg_pool2d(image, kernel, stride, padding, ceil, counted),
        ),
        (
            lambda: adaptive_avg_pool2d_call(size, kernel, dtype),
            lambda: F.adaptive_avg_pool2d(image, kernel),
        ),
    ):
        try:
            call = made()
        except ArgumentError:
            with pytest.raises(RuntimeError):
                expected()
            continue
        answer(call, [image], expected())


@random_calls
@given(isas, sizes, pairs, pairs, st.sampled_from([torch.int8, torch.uint8]), seeds)
def test_means_of_bytes(isa, size, kernel, stride, dtype, seed) -> None:
    _C.select_isa(isa)
    if size[2] < kernel[0] or size[3] < kernel[1]:
        return
    image = (image_of(size, torch.float32, seed) * 60).to(torch.int8).view(dtype)
    numbers = (0.5, 3, 0.25, 7)
    made = avg_pool2d_int8_call(
        size, kernel, stride, (0, 0), False, True, None, dtype, *numbers, torch.float32
    )
    answer(made, [image], F.avg_pool2d((image.float() - 3) * 0.5, kernel, stride))


@random_calls
@given(isas, sizes, pairs, st.booleans(), st.sampled_from(["nearest", "bilinear"]), short, seeds)
def test_resizing(isa, size, target, corners, mode, dtype, seed) -> None:
    _C.select_isa(isa)
    image = image_of(size, dtype, seed)
    target = (target[0] * 3, target[1] * 2)
    corners = corners and mode == "bilinear"
    made = interpolate_call(size, target, None, mode, corners, dtype)
    expected = F.interpolate(image, target, mode=mode, align_corners=corners or None)
    answer(made, [image], expected)


@random_calls
@given(isas, sizes, st.integers(0, 3), st.lists(st.integers(1, 5), min_size=1, max_size=4), seeds)
def test_concatenation(isa, size, dim, parts, seed) -> None:
    _C.select_isa(isa)
    shapes = [(*size[:dim], part, *size[dim + 1 :]) for part in parts]
    images = [image_of(shape, torch.float32, seed + i) for i, shape in enumerate(shapes)]
    strides = [_dense(shape) for shape in shapes]
    made = copies.concat(shapes, strides, dim, LAST, torch.float32)
    answer(made, images, torch.cat(images, dim))


def _dense(shape: Sequence[int]) -> tuple[int, ...]:
    _, channels, height, width = shape
    return (height * width * channels, 1, width * channels, channels)


@random_calls
@given(isas, sizes, st.permutations(range(4)), short, short, seeds)
def test_copies_in_another_order(isa, size, order, dtype, other, seed) -> None:
    _C.select_isa(isa)
    image = image_of(size, dtype, seed).permute(order)
    expected = image.to(other).contiguous(memory_format=torch.channels_last)
    made = copies.copy(image.shape, image.stride(), _dense(image.shape), dtype, other)
    answer(made, [image], expected)


@random_calls
@given(isas, sizes, st.tuples(*[st.booleans()] * 4), st.sampled_from(["add", "multiply"]), seeds)
def test_pairs_that_broadcast(isa, size, narrow, kind, seed) -> None:
    _C.select_isa(isa)
    a = image_of(size, torch.float32, seed)
    small = [1 if each else full for each, full in zip(narrow, size, strict=True)]
    b = image_of(small, torch.float32, seed + 1)
    made = arithmetic.binary(
        kind, (a.shape, _dense(a.shape)), (b.shape, _dense(b.shape)), LAST, torch.float32
    )
    answer(made, [a, b], a + b if kind == "add" else a * b)


@random_calls
@given(isas, st.integers(0, 200), st.sampled_from(["silu", "tanh", "gelu", "hardsigmoid"]), seeds)
def test_functions(isa, count, kind, seed) -> None:
    _C.select_isa(isa)
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * 4
    made = arithmetic.unary(kind, (count,), (1,), torch.float32)
    answer(made, [x], getattr(torch if kind == "tanh" else F, kind)(x))


@random_calls
@given(isas, sizes, st.integers(0, 3), st.booleans(), seeds)
def test_softmax(isa, size, dim, logarithm, seed) -> None:
    _C.select_isa(isa)
    x = image_of(size, torch.float32, seed)
    made = arithmetic.softmax(size, _dense(size), dim, torch.float32, logarithm)
    answer(made, [x], x.log_softmax(dim) if logarithm else x.softmax(dim))
