"""Steps on bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cvperf.backends.cpu.conv2d_binary import conv2d_binary_call, pack_bits_call
from cvperf.engine.lower import Lower, lowers
from cvperf.engine.passes.binary import CONV2D_BINARY
from cvperf.engine.steps import Value


@lowers(torch.ops.cvperf.pack_bits.default)
def pack_bits(lower: Lower, x: Value) -> Any:
    image = lower.image(x)
    call, shape = pack_bits_call(image.shape, image.dtype)
    output = lower.program.new(shape, torch.int32, torch.contiguous_format)
    return lower.native("pack_bits", call, (image,), output)


@lowers(CONV2D_BINARY)
def conv2d_binary(
    lower: Lower,
    bits: Value,
    packed: Value,
    weight_size: Sequence[int],
    scale: Value | None,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    out_dtype: torch.dtype,
) -> Any:
    window = (stride, padding, dilation)
    call, shape = conv2d_binary_call(bits.shape, weight_size, *window, activation, out_dtype)
    numbers = (bits, packed, scale, bias)
    read = tuple(None if each is None else lower.contiguous(each) for each in numbers)
    output = lower.program.new(shape, out_dtype, torch.channels_last)
    work = 2 * math.prod(shape) * math.prod(weight_size[1:])
    return lower.native("conv2d_binary", call, read, output, work)
