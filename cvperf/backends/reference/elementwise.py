"""The element-wise passes in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import dense, dense_format, memory_format
from cvperf.backends.reference.activation import activate
from cvperf.backends.registry import FLOATING, register


def along(values: Tensor, axis: int | None, like: Tensor) -> Tensor:
    """[C] or [1] values so that they broadcast along an axis of ``like``."""
    if axis is None or values.numel() == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis else 1 for i in range(like.dim())])


@register("bias_activation", "reference", "cpu", FLOATING, automatic=False)
def bias_activation(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, activation: str | None
) -> Tensor:
    value = dense(x).double()
    if bias is not None:
        value = value + along(bias.double(), 1, x)
    if residual is not None:
        value = value + residual.double()
    value = activate(activation, value).to(x.dtype)
    return value.contiguous(memory_format=dense_format(x))


@register(
    "quantize",
    "reference",
    "cpu",
    (torch.float16, torch.bfloat16, torch.float32),
    automatic=False,
)
def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    limits = torch.iinfo(dtype)
    value = (dense(x).double() / along(scale.double(), axis, x)).round()
    value = value + along(zero_point.double(), axis, x)
    return value.nan_to_num(nan=limits.min).clamp(limits.min, limits.max).to(dtype)


@register("dequantize", "reference", "cpu", (torch.int8, torch.uint8), automatic=False)
def dequantize(
    q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    value = dense(q).double() - along(zero_point.double(), axis, q)
    return (value * along(scale.double(), axis, q)).to(dtype)


@register("normalize_image", "reference", "cpu", (torch.uint8,), automatic=False)
def normalize_image(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    mean_, std_ = (along(torch.tensor(each).double(), 1, image) for each in (mean, std))
    format = memory_format(channels_last)
    value = (image.double() / 255 - mean_) / std_
    return value.to(dtype).contiguous(memory_format=format)
