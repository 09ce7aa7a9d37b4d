"""Native calls that move elements: concatenation, ranges, other layouts, casts.

Each function takes what is known of tensors before they are there, and returns the call and the
shape of what it writes. Orders are those of ``cvperf.backends.cpu.strides``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.strides import (
    Ints,
    check_dense,
    check_dim,
    check_order,
    check_strides,
    collapse,
    permuted,
)
from cvperf.errors import ArgumentError, UnsupportedError

DIMS = 6

_CASTS = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8)
# Equal dtypes are moved as bits, whatever they are.
_BITS = {1: _C.DType.u8, 2: _C.DType.f16, 4: _C.DType.f32, 8: _C.DType.f64}


def concat(
    shapes: Sequence[Ints], strides: Sequence[Ints], dim: int, order: Ints, dtype: torch.dtype
) -> tuple[_C.Call, Ints]:
    """Tensors one after the other along ``dim``; reads all of them.

    They and the output are dense in the same ``order``.

    Raises:
        ArgumentError: sizes other than those along ``dim`` differ, or a tensor is not dense.
    """
    if not shapes:
        raise ArgumentError("concat needs a tensor")
    check_dim(shapes[0], dim)
    for shape, steps in zip(shapes, strides, strict=True):
        if _without(shape, dim) != _without(shapes[0], dim):
            raise ArgumentError(
                f"tensors must differ along dimension {dim} only, "
                f"got shapes {list(shapes[0])} and {list(shape)}"
            )
        check_dense("a part", shape, steps, order)
    outer, inner = _around(shapes[0], dim, order)
    call = _C.ConcatCall(outer, [shape[dim] * inner for shape in shapes], dtype.itemsize)
    return call, _with(shapes[0], dim, sum(shape[dim] for shape in shapes))


def narrow(
    shape: Ints, strides: Ints, dim: int, first: int, count: int, order: Ints, dtype: torch.dtype
) -> tuple[_C.Call, Ints]:
    """Indices ``first`` to ``first + count`` of ``dim``; reads the tensor.

    It and the output are dense in the same ``order``.

    Raises:
        ArgumentError: there are no such indices, or the tensor is not dense.
    """
    check_dim(shape, dim)
    if not 0 <= first <= first + count <= shape[dim]:
        raise ArgumentError(
            f"indices {first} to {first + count} are not in dimension {dim} of {list(shape)}"
        )
    check_dense("the tensor", shape, strides, order)
    outer, inner = _around(shape, dim, order)
    sizes = (shape[dim] * inner, first * inner, count * inner)
    return _C.SliceCall(outer, *sizes, dtype.itemsize), _with(shape, dim, count)


def copy(
    shape: Ints,
    read_strides: Ints,
    write_strides: Ints,
    read_dtype: torch.dtype,
    write_dtype: torch.dtype,
    first: int = 0,
) -> tuple[_C.Call, Ints]:
    """The elements of a view, with other strides or of another dtype; reads the view.

    ``read_strides`` may be any, also 0 (a size that is expanded) and negative; index 0 is
    ``first`` elements behind the address that is read. ``write_strides`` may have gaps, but no two
    indices meet. Casts are those between float32, float16, bfloat16, int8 and uint8; to integers
    they drop what lies after the point.

    Raises:
        UnsupportedError: more than 6 dimensions are left once neighbours are merged, or there is no
            such cast.
    """
    check_strides(shape, read_strides)
    check_strides(shape, write_strides)
    order = tuple(sorted(range(len(shape)), key=lambda dim: -write_strides[dim]))
    sizes, (read, write) = collapse(
        *(permuted(each, order) for each in (shape, read_strides, write_strides))
    )
    if len(sizes) > DIMS:
        raise UnsupportedError(
            f"a copy of shape {list(shape)} from strides {list(read_strides)} to "
            f"{list(write_strides)} has {len(sizes)} dimensions that do not merge, more than {DIMS}"
        )
    if math.prod(shape) == 0:
        sizes, read, write = (0,), (1,), (1,)
    return _C.CopyCall(sizes, read, write, *_pair(read_dtype, write_dtype), first), shape


def _pair(read: torch.dtype, write: torch.dtype) -> tuple[_C.DType, _C.DType]:
    whole = (torch.int8, torch.uint8)
    if read == write or (read in whole and write in whole):
        if read.itemsize in _BITS:
            return _BITS[read.itemsize], _BITS[read.itemsize]
    elif read in _CASTS and write in _CASTS:
        return DTYPES[read], DTYPES[write]
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in _CASTS)
    raise UnsupportedError(f"there is no copy from {read} to {write}; casts are between {names}")


def _around(shape: Ints, dim: int, order: Ints) -> tuple[int, int]:
    """How many elements memory has outside and inside of a dimension."""
    check_order(shape, order)
    at = order.index(dim)
    outer, inner = permuted(shape, order)[:at], permuted(shape, order)[at + 1 :]
    return math.prod(outer), math.prod(inner)


def _without(shape: Ints, dim: int) -> Ints:
    return shape[:dim] + shape[dim + 1 :]


def _with(shape: Ints, dim: int, size: int) -> Ints:
    return (*shape[:dim], size, *shape[dim + 1 :])
