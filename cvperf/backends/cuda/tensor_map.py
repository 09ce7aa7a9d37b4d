"""Tensor maps: what the tensor copies (TMA) of sm_90a need to know of a tensor, as 128 bytes.

For a tensor on a GPU the driver writes them, in an encoding of its own: ``cuTensorMapEncodeTiled``
and ``cuTensorMapEncodeIm2col``. This is not yet run on hardware. For any other tensor (emulated, or
compiled only) we write the fields that ``kernels/emulator/tma.hpp`` reads. Both are cached by what
they are made from, so that a call that repeats costs a look-up.

Dimensions are listed from the fastest, as the driver wants them.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cuda.driver import driver
from cvperf.errors import ArgumentError

BYTES = 128
NO_SWIZZLE = 16

# Values of enumerations of cuda.h.
_TYPES = {
    torch.uint8: 0,
    torch.int8: 0,
    torch.int32: 3,
    torch.float16: 6,
    torch.float32: 7,
    torch.bfloat16: 9,
}
_SWIZZLES = {NO_SWIZZLE: 0, 32: 1, 64: 2, 128: 3}
_PROMOTE_TO_256_BYTES = 3

_MAGIC = 0x50414D54
_FIELDS = struct.Struct("<I4BQ5I5H2b2b5Bx4Q")
"""``TensorFields`` of the emulator."""


def tiled(
    tensor: Tensor,
    dims: Sequence[int],
    strides: Sequence[int],
    box: Sequence[int],
    span: int = NO_SWIZZLE,
) -> bytes:
    """The map by which ``tile_load`` and ``tile_store`` copy tiles.

    Args:
        tensor: where the first element lies, and its dtype.
        dims: 2 to 5 sizes; what a tile has beyond them is read as zeros and not written.
        strides: bytes from element to element of all dimensions but the first.
        box: sizes of a tile.
        span: of the swizzle, in bytes: 32, 64 or 128, which is then a tile's size in its first
            dimension; 16 for none.

    Raises:
        ArgumentError: no tensor copy does that; says which rule is broken.
        LaunchError: the driver refuses it.
    """
    key = (tensor.data_ptr(), tensor.dtype, tuple(dims), tuple(strides), tuple(box), span)
    return _tiled(_gpu(tensor), *key)


def im2col(
    image: Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    channels: int,
    pixels: int,
    span: int = NO_SWIZZLE,
) -> bytes:
    """The map by which ``im2col_load`` reads an image for a convolution.

    Args:
        image: [N, C, H, W], channels last in memory.
        window: taps down and across.
        stride: pixels from window to window, down and across.
        padding: down and across.
        dilation: pixels from tap to tap, down and across.
        channels: of a pixel in one copy.
        pixels: in one copy.
        span: as in ``tiled``.

    Raises:
        ArgumentError: no tensor copy does that; says which rule is broken.
        LaunchError: the driver refuses it.
    """
    n, c, h, w = image.shape
    size = image.element_size()
    if not image.is_contiguous(memory_format=torch.channels_last):
        raise ArgumentError(
            f"a tensor map of an image wants channels last, got strides {image.stride()}"
        )
    strides = (size * c, size * c * w, size * c * w * h)  # those of sizes of 1 may be anything
    # Windows begin within a box, whose corners are given relative to those of the image.
    corners = [(-padding[dim], padding[dim] - dilation[dim] * (window[dim] - 1)) for dim in (1, 0)]
    lower, upper = zip(*corners, strict=True)
    steps = (1, stride[1], stride[0], 1)
    key = (image.data_ptr(), image.dtype, (c, w, h, n), strides)
    return _im2col(_gpu(image), *key, lower, upper, steps, channels, pixels, span)


def im2col_reaches(
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> bool:
    """Whether the fields of an im2col map hold these numbers."""
    reach = [dilation[dim] * (window[dim] - 1) for dim in (0, 1)]
    corners = [one for dim in (0, 1) for one in (-padding[dim], padding[dim] - reach[dim])]
    return max(stride) <= 8 and max(reach) <= 255 and min(corners) >= -128 and max(corners) <= 127


@functools.lru_cache(4096)
def _tiled(
    gpu: int | None,
    address: int,
    dtype: torch.dtype,
    dims: tuple[int, ...],
    strides: tuple[int, ...],
    box: tuple[int, ...],
    span: int,
) -> bytes:
    _check(address, dtype, dims, strides, box[0], span)
    if len(box) != len(dims) or not all(1 <= one <= 256 for one in box):
        raise _refused(f"a tile has 1 to 256 elements in each dimension, got box {box}")
    if gpu is None:
        return _plain(address, dtype, dims, strides, span, box)
    rank = len(dims)
    return _encoded(
        *(gpu, "Tiled"),
        *(_TYPES[dtype], rank, ctypes.c_void_p(address)),
        *(_array(ctypes.c_uint64, dims), _array(ctypes.c_uint64, strides)),
        *(_array(ctypes.c_uint32, box), _array(ctypes.c_uint32, (1,) * rank)),
        *(0, _SWIZZLES[span], _PROMOTE_TO_256_BYTES, 0),
    )


@functools.lru_cache(4096)
def _im2col(
    gpu: int | None,
    address: int,
    dtype: torch.dtype,
    dims: tuple[int, ...],
    strides: tuple[int, ...],
    lower: tuple[int, ...],
    upper: tuple[int, ...],
    steps: tuple[int, ...],
    channels: int,
    pixels: int,
    span: int,
) -> bytes:
    _check(address, dtype, dims, strides, channels, span)
    if not (1 <= channels <= 256 and 1 <= pixels <= 1024):
        raise _refused(f"1 to 256 channels of 1 to 1024 pixels, got {channels} of {pixels}")
    if not all(-128 <= one <= 127 for one in (*lower, *upper)):
        raise _refused(f"padding and windows reach -128 to 127 pixels, got {lower} to {upper}")
    if not all(1 <= one <= 8 for one in steps):
        raise _refused(f"windows are 1 to 8 pixels apart, got {steps[1:3]}")
    if any(size + up - low < 1 for size, low, up in zip(dims[1:3], lower, upper, strict=True)):
        raise _refused(f"no window fits an image of {dims[2]} x {dims[1]} pixels")
    if gpu is None:
        return _plain(address, dtype, dims, strides, span, (channels, pixels), lower, upper, steps)
    return _encoded(
        *(gpu, "Im2col"),
        *(_TYPES[dtype], len(dims), ctypes.c_void_p(address)),
        *(_array(ctypes.c_uint64, dims), _array(ctypes.c_uint64, strides)),
        *(_array(ctypes.c_int, lower), _array(ctypes.c_int, upper), channels, pixels),
        *(_array(ctypes.c_uint32, steps), 0, _SWIZZLES[span], _PROMOTE_TO_256_BYTES, 0),
    )


def _check(
    address: int,
    dtype: torch.dtype,
    dims: tuple[int, ...],
    strides: tuple[int, ...],
    inner: int,
    span: int,
) -> None:
    """The rules that both kinds of map have."""
    if dtype not in _TYPES:
        raise _refused(f"no tensor map of {dtype}; it can be of {', '.join(map(str, _TYPES))}")
    if not 2 <= len(dims) <= 5 or len(strides) != len(dims) - 1:
        raise _refused(f"2 to 5 dimensions, a stride for all but the first: {dims}, {strides}")
    if not all(1 <= one < 1 << 32 for one in dims):
        raise _refused(f"sizes are 1 to 2^32 - 1, got {dims}")
    if address % 16 or any(one % 16 or not 0 < one < 1 << 40 for one in strides):
        raise _refused(
            f"address and strides are multiples of 16 bytes, got {address:#x} and {strides}"
        )
    row = inner * dtype.itemsize
    if span not in _SWIZZLES or row % 16 or (span != NO_SWIZZLE and row != span):
        raise _refused(
            f"a tile's rows are multiples of 16 bytes, with a swizzle 32, 64 or 128 as its span "
            f"is; got {row} bytes and a span of {span}"
        )


def _refused(rule: str) -> ArgumentError:
    return ArgumentError(f"a tensor map cannot describe this: {rule}")


def _plain(
    address: int,
    dtype: torch.dtype,
    dims: tuple[int, ...],
    strides: tuple[int, ...],
    span: int,
    box: tuple[int, ...],
    lower: tuple[int, ...] = (0, 0),
    upper: tuple[int, ...] = (0, 0),
    steps: tuple[int, ...] = (),
) -> bytes:
    """The emulator's encoding."""

    def filled(values: tuple[int, ...], count: int) -> tuple[int, ...]:
        return (*values, *(1,) * (count - len(values)))

    fields = (
        *(_MAGIC, bool(steps), len(dims), dtype.itemsize, span, address),
        *(*filled(dims, 5), *filled(box, 5), *lower, *upper, *filled(steps, 5)),
        *filled(strides, 4),
    )
    return _FIELDS.pack(*fields).ljust(BYTES, b"\0")


def _gpu(tensor: Tensor) -> int | None:
    return tensor.get_device() if tensor.device.type == "cuda" else None


def _array(kind: Any, values: Sequence[int]) -> Any:
    return (kind * len(values))(*values)


def _encoded(gpu: int, kind: str, *arguments: Any) -> bytes:
    """The driver's encoding."""
    one = driver()
    one.ensure_context(gpu)
    return one.tensor_map(kind, *arguments)
