"""The linear layer with 4-bit weights in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.reference.activation import activate
from cvperf.backends.registry import register

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def unpacked_int4(weight: Tensor) -> Tensor:
    """uint8 [N, K / 2] to int8 [N, K]."""
    both = weight.view(torch.int8)
    return torch.stack(((both << 4) >> 4, both >> 4), -1).flatten(1)


def expanded_int4(weight: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weight [N, K] in a floating dtype."""
    n, groups = scale.shape
    values = unpacked_int4(weight).to(dtype).reshape(n, groups, 2 * weight.shape[1] // groups)
    if zero is not None:
        values = values - zero.to(dtype)[:, :, None]
    return (values * scale.to(dtype)[:, :, None]).flatten(1)


@register("int4_linear", "reference", "cpu", _DTYPES, automatic=False)
def int4_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """The formula in float64, rounded once to x's dtype."""
    return int4_linear_exact(x, weight, scale, zero, bias, activation).to(x.dtype)


def int4_linear_exact(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """The formula in float64."""
    value = x.double() @ expanded_int4(weight, scale, zero, torch.float64).T
    return activate(activation, value if bias is None else value + bias.double())
