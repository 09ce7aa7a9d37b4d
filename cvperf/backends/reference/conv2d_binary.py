"""Convolution of signs in float64, where the sums are exact, from bits taken apart again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.reference.activation import activate
from cvperf.backends.registry import FLOATING, register

_WORD, _PANEL = 32, 16


@register("pack_bits", "reference", "cpu", FLOATING, automatic=False)
def pack_bits(x: Tensor) -> Tensor:
    """Bits [N, H, W, words]: 1 where x >= 0, the first channel of a word lowest."""
    bits = (x >= 0).permute(0, 2, 3, 1).long()
    words = torch.nn.functional.pad(bits, (0, -bits.shape[3] % _WORD)).unflatten(3, (-1, _WORD))
    unsigned = (words << torch.arange(_WORD)).sum(4)
    return torch.where(unsigned < 2**31, unsigned, unsigned - 2**32).to(torch.int32)


def signs(bits: Tensor, channels: int) -> Tensor:
    """[..., C] of +1 and -1 in float64, of bits [..., words]."""
    ones = (bits.unsqueeze(-1) >> torch.arange(_WORD, dtype=torch.int32)) & 1
    return (2 * ones.flatten(-2)[..., :channels] - 1).double()


@register("pack_conv2d_binary", "reference", "cpu", FLOATING, automatic=False)
def pack_conv2d_binary(weight: Tensor) -> Tensor:
    """Panels of 16 filters [panels, kh * kw * words, 16]."""
    bits = pack_bits(weight).flatten(1)
    panels = torch.nn.functional.pad(bits, (0, 0, 0, -bits.shape[0] % _PANEL))
    return panels.unflatten(0, (-1, _PANEL)).transpose(1, 2).contiguous()


@register("conv2d_binary", "reference", "cpu", (torch.int32,), automatic=False)
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
    """The formula in float64."""
    filters, channels, height, width = weight_size
    rows = packed.transpose(1, 2).flatten(0, 1)[:filters]
    weight = signs(rows.unflatten(1, (height, width, -1)), channels)
    value = torch.nn.functional.conv2d(
        signs(bits, channels).permute(0, 3, 1, 2),
        weight.permute(0, 3, 1, 2),
        None,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
    )
    if scale is not None:
        value = value * scale.double().reshape(-1, 1, 1)
    if bias is not None:
        value = value + bias.double().reshape(-1, 1, 1)
    value = activate(activation, value)
    return value.to(out_dtype).contiguous(memory_format=torch.channels_last)
