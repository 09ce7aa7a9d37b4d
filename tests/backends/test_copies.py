"""Concatenation, ranges, other layouts and casts, bit for bit as torch does them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf.backends.cpu.copies import concat, copy, narrow
from cvperf.backends.cpu.strides import Ints, collapse, dense_strides, is_dense, order_of
from cvperf.errors import ArgumentError, UnsupportedError
from tests.backends.planned import CHANNELS_FIRST, CHANNELS_LAST, laid_out, layout, written

MOVED = [torch.float32, torch.bfloat16, torch.int8, torch.int64]
CAST = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8]
ORDERS = [CHANNELS_FIRST, CHANNELS_LAST]


def numbers(shape: Ints, dtype: torch.dtype) -> Tensor:
    """Distinct as far as the dtype has them, of both signs unless it has none."""
    count = torch.arange(torch.Size(shape).numel()).reshape(shape)
    if dtype.is_floating_point:
        return ((count * 37 % 1009 - 500) / 4).to(dtype)
    return count.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_concat(isa: str, dim: int, order: Ints, dtype: torch.dtype) -> None:
    for base in ((2, 5, 7, 3), (1, 9, 20, 21), (3, 1, 1, 1)):
        for sizes in ((1, 2, 3), (4,), (0, 17, 1, 0), (70, 5)):
            shapes = [(*base[:dim], size, *base[dim + 1 :]) for size in sizes]
            parts = [laid_out(numbers(shape, dtype) + k, order) for k, shape in enumerate(shapes)]
            call, shape = concat(shapes, [part.stride() for part in parts], dim, order, dtype)
            found = written(call, parts, shape, dense_strides(shape, order), dtype)
            assert torch.equal(found, torch.cat(parts, dim)), f"{base} {sizes}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_narrow(isa: str, dim: int, order: Ints, dtype: torch.dtype) -> None:
    for whole in ((5, 6, 7, 9), (2, 40, 20, 31), (1, 1, 1, 1)):
        tensor = laid_out(numbers(whole, dtype), order)
        size = whole[dim]
        for first, count in ((0, size), (size // 2, size - size // 2), (1, size - 2), (size, 0)):
            if count < 0:
                continue
            call, shape = narrow(*layout(tensor), dim, first, count, order, dtype)
            found = written(call, [tensor], shape, dense_strides(shape, order), dtype)
            assert torch.equal(found, tensor.narrow(dim, first, count)), f"{whole} {first} {count}"


def views(dtype: torch.dtype) -> list[Tensor]:
    image = numbers((2, 3, 37, 41), dtype)
    features = numbers((2, 50, 19, 23), dtype)
    last = features.contiguous(memory_format=torch.channels_last)
    return [
        image,
        image.contiguous(memory_format=torch.channels_last),
        features,
        last,
        features[:, ::2, 1:, ::3],
        last[:, 5:],
        features[:, :1].expand(2, 21, 19, 23),
        features[..., :1].expand(2, 50, 19, 30),
        features.transpose(2, 3),
        numbers((4, 2, 33, 65), dtype).permute(3, 1, 0, 2),
        *(numbers((2, 7, 6, c), dtype).permute(0, 3, 1, 2) for c in (1, 2, 3, 4, 5)),
        *(numbers((2, c, 9, 31), dtype) for c in (1, 2, 4, 5, 16, 17)),
        numbers((1, 1, 1, 1), dtype),
        numbers((3, 1, 300, 200), dtype),
    ]


@pytest.mark.parametrize("order", [*ORDERS, (3, 1, 0, 2)])
@pytest.mark.parametrize("dtype", MOVED)
def test_copy_moves_bits(isa: str, dtype: torch.dtype, order: Ints) -> None:
    for view in views(dtype):
        steps = dense_strides(tuple(view.shape), order)
        call, shape = copy(*layout(view), steps, dtype, dtype)
        assert torch.equal(written(call, [view], shape, steps, dtype), view), f"{layout(view)}"


@pytest.mark.parametrize("write", CAST)
@pytest.mark.parametrize("read", CAST)
def test_copy_casts(isa: str, read: torch.dtype, write: torch.dtype) -> None:
    for k, view in enumerate(views(read)):
        steps = dense_strides(tuple(view.shape), ORDERS[k % 3 % 2])
        call, shape = copy(*layout(view), steps, read, write)
        found = written(call, [view], shape, steps, write)
        assert torch.equal(found, view.to(write)), f"{layout(view)} to {steps}"


@pytest.mark.parametrize("groups", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_channel_shuffle(isa: str, dtype: torch.dtype, groups: int) -> None:
    for each in (1, 4, 29, 58, 64):
        pixels = numbers((2, 11, 13, groups, each), dtype)
        view = pixels.transpose(3, 4)
        steps = dense_strides(tuple(view.shape), (0, 1, 2, 3, 4))
        call, shape = copy(*layout(view), steps, dtype, dtype)
        assert torch.equal(written(call, [pixels], shape, steps, dtype), view), f"{each}"


def test_copy_of_six_dimensions_and_no_more(isa: str) -> None:
    tensor = numbers((3, 2, 4, 5, 2, 3), torch.float32)
    for order in ((5, 4, 3, 2, 1, 0), (1, 0, 3, 2, 5, 4), (2, 0, 4, 5, 1, 3)):
        view = tensor.permute(order)
        steps = dense_strides(tuple(view.shape), (0, 1, 2, 3, 4, 5))
        call, shape = copy(*layout(view), steps, torch.float32, torch.float32)
        assert torch.equal(written(call, [tensor], shape, steps, torch.float32), view)
    many = numbers((2, 3, 2, 3, 2, 3, 2), torch.float32).permute(6, 5, 4, 3, 2, 1, 0)
    steps = dense_strides(tuple(many.shape), (0, 1, 2, 3, 4, 5, 6))
    with pytest.raises(UnsupportedError, match="7 dimensions that do not merge, more than 6"):
        copy(*layout(many), steps, torch.float32, torch.float32)


def test_copy_into_gaps_and_backwards(isa: str) -> None:
    tensor = numbers((2, 9, 40), torch.float32)
    call, shape = copy(*layout(tensor), (900, 100, 2), torch.float32, torch.float16)
    found = written(call, [tensor], shape, (900, 100, 2), torch.float16)
    assert torch.equal(found, tensor.half())
    for dtype in (torch.float32, torch.float16):
        steps = dense_strides((2, 9, 40), (0, 1, 2))
        call, shape = copy((2, 9, 40), (360, 40, -1), steps, torch.float32, dtype, first=39)
        assert torch.equal(written(call, [tensor], shape, steps, dtype), tensor.flip(2).to(dtype))


def test_not_a_number_and_the_infinite_survive(isa: str) -> None:
    bits = torch.arange(-(2**15), 2**15).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        every = bits.view(dtype)
        call, shape = copy(*layout(every), (1,), dtype, torch.float32)
        wide = written(call, [every], shape, (1,), torch.float32)
        assert torch.equal(wide.nan_to_num(7.0), every.float().nan_to_num(7.0))
        call, shape = copy(shape, (1,), (1,), torch.float32, dtype)
        back = written(call, [wide], shape, (1,), dtype)
        assert torch.equal(back.isnan(), every.isnan())
        assert torch.equal(back[~every.isnan()], every[~every.isnan()])


def test_empty(isa: str) -> None:
    for shape in ((0,), (2, 0, 3, 4), (0, 0)):
        order = tuple(range(len(shape)))
        steps = dense_strides(shape, order)
        tensor = torch.empty(shape)
        for call, _ in (
            copy(shape, steps, steps, torch.float32, torch.bfloat16),
            concat([shape, shape], [steps, steps], 0, order, torch.float32),
            narrow(shape, steps, 0, 0, shape[0], order, torch.float32),
        ):
            reads = [tensor, tensor] if "Concat" in type(call).__name__ else [tensor]
            call([each.data_ptr() for each in reads], tensor.data_ptr(), 2)


def test_collapsing() -> None:
    assert collapse((2, 3, 4), (12, 4, 1)) == ((24,), [(1,)])
    assert collapse((2, 3, 4), (12, 4, 1), (0, 4, 1)) == ((2, 12), [(12, 1), (0, 1)])
    assert collapse((1, 5, 1), (7, 1, 9)) == ((5,), [(1,)])
    assert collapse((2, 3), (0, 0)) == ((6,), [(0,)])
    assert collapse((1, 1), (3, 3)) == ((), [()])
    assert order_of((2, 3, 4, 5), (60, 1, 15, 3)) == (0, 2, 3, 1)
    assert order_of((1, 8, 1, 1), (8, 1, 8, 8)) == (0, 1, 2, 3)
    assert is_dense((2, 3), (1, 2))
    assert not is_dense((2, 3), (1, 2), (0, 1))
    assert not is_dense((2, 3), (6, 2))
    assert not is_dense((2, 3), (0, 1))


def test_what_is_refused() -> None:
    four = ((2, 3, 4, 5), (60, 20, 5, 1))
    with pytest.raises(ArgumentError, match=r"differ along dimension 1 only.*\[2, 3, 4, 5\]"):
        concat([four[0], (2, 3, 4, 6)], [four[1]] * 2, 1, CHANNELS_FIRST, torch.float32)
    with pytest.raises(ArgumentError, match=r"without gaps in the order .* Put a copy ahead"):
        concat([four[0]], [four[1]], 1, CHANNELS_LAST, torch.float32)
    with pytest.raises(ArgumentError, match="concat needs a tensor"):
        concat([], [], 1, CHANNELS_FIRST, torch.float32)
    with pytest.raises(ArgumentError, match="indices 2 to 4 are not in dimension 1"):
        narrow(*four, 1, 2, 2, CHANNELS_FIRST, torch.float32)
    with pytest.raises(ArgumentError, match=r"dim must be a dimension .* got 4"):
        narrow(*four, 4, 0, 1, CHANNELS_FIRST, torch.float32)
    with pytest.raises(ArgumentError, match="order must have each dimension"):
        narrow(*four, 1, 0, 1, (0, 1, 2), torch.float32)
    with pytest.raises(ArgumentError, match="strides must be one for each dimension"):
        copy((2, 3), (1,), (3, 1), torch.float32, torch.float32)
    with pytest.raises(UnsupportedError, match=r"no copy from torch\.int64 to torch\.float32"):
        copy((2, 3), (3, 1), (3, 1), torch.int64, torch.float32)
