"""Convolution of signs on the CPU: bits, weights that are packed once, native calls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.conv2d import convolution_shape, window_of
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.images import FLOATS, Shape, check_dtype, check_image
from cvperf.backends.cpu.memory import empty
from cvperf.backends.cpu.run import run
from cvperf.backends.registry import register
from cvperf.errors import ArgumentError

WORD = 32  # channels
PANEL = 16  # filters that lie side by side in a packed weight


def words_of(channels: int) -> int:
    return (channels + WORD - 1) // WORD


def packed_shape(weight: Sequence[int]) -> tuple[int, int, int]:
    """Size of a packed weight [O, C, kh, kw]."""
    filters, channels, height, width = weight
    return (filters + PANEL - 1) // PANEL, height * width * words_of(channels), PANEL


@register("pack_bits", "cpu", "cpu", FLOATS)
def pack_bits(x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    call, shape = pack_bits_call(x.shape, x.dtype)
    return run(call, (x,), torch.empty(shape, dtype=torch.int32))


@register("pack_conv2d_binary", "cpu", "cpu", FLOATS)
def pack_conv2d_binary(weight: Tensor) -> Tensor:
    filters = weight.shape[0]
    bits = pack_bits(weight).view(filters, -1)
    panels = torch.nn.functional.pad(bits, (0, 0, 0, -filters % PANEL))
    return panels.view(-1, PANEL, bits.shape[1]).transpose(1, 2).contiguous()


@register("conv2d_binary", "cpu", "cpu", (torch.int32,))
def conv2d_binary(
    bits: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    scale: Tensor | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    call, shape = conv2d_binary_call(
        bits.shape, weight_size, stride, padding, dilation, activation, out_dtype
    )
    read = (
        bits.contiguous(),
        packed.contiguous(),
        None if scale is None else scale.contiguous(),
        None if bias is None else bias.contiguous(),
    )
    return run(call, read, empty(shape, out_dtype, torch.channels_last))


def pack_bits_call(
    image: Sequence[int], dtype: torch.dtype
) -> tuple[_C.PackBitsCall, tuple[int, int, int, int]]:
    """The call that packs a channels-last image [N, C, H, W], and its output's [N, H, W, words].

    Raises:
        ArgumentError: the dtype is not served, or the image is empty in more than N.
    """
    check_dtype("image", dtype, FLOATS)
    check_image(image)
    count, channels, height, width = image
    call = _C.PackBitsCall(DTYPES[dtype], count * height * width, channels)
    return call, (count, height, width, words_of(channels))


def conv2d_binary_call(
    bits: Sequence[int],
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    out_dtype: torch.dtype,
) -> tuple[_C.Conv2dBinaryCall, Shape]:
    """The call for bits [N, H, W, words], and its output's size [N, O, OH, OW].

    It reads bits, packed weight, scale and bias.

    Raises:
        ArgumentError: the sizes make no convolution, or the dtype is not served.
    """
    check_dtype("output", out_dtype, FLOATS)
    count, height, width, words = bits
    image = (count, weight_size[1], height, width)
    window = window_of(weight_size, stride, padding, dilation)
    if words != words_of(weight_size[1]) or min(weight_size) < 1:
        raise ArgumentError(
            f"bits [N, H, W, words] must have {words_of(weight_size[1])} words for a weight of "
            f"size {list(weight_size)}, got {list(bits)}"
        )
    shape = convolution_shape(image, weight_size, window)
    call = _C.Conv2dBinaryCall(
        (*image, *shape[1:]),
        window,
        getattr(_C.Activation, activation or "none"),
        DTYPES[out_dtype],
    )
    return call, shape
