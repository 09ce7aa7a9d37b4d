"""Batch norm with the statistics of the batch on the CPU, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.channels import channel_view, dense, dense_format
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.registry import register

_SERVED = (torch.bfloat16, torch.float32)


@register("batch_norm", "cpu", "cpu", _SERVED)
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    x = dense(x)
    format, channels = dense_format(x), x.shape[1]
    residual = None if residual is None else residual.contiguous(memory_format=format)
    weight, bias = _parameter(weight), _parameter(bias)
    output = empty(tuple(x.shape), x.dtype, format)
    mean, variance = (torch.empty(channels, dtype=torch.float64) for _ in range(2))
    _C.batch_norm(
        DTYPES[x.dtype],
        x.data_ptr(),
        _address(residual),
        _address(weight),
        _address(bias),
        channel_view(x, 1),
        eps,
        getattr(_C.Activation, activation or "none"),
        output.data_ptr(),
        mean.data_ptr(),
        variance.data_ptr(),
        torch.get_num_threads(),
    )
    return output, mean, variance


@register("batch_norm_backward", "cpu", "cpu", _SERVED)
def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    activation: str | None,
    residual_needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The last is empty unless asked for."""
    x = dense(x)
    format, channels = dense_format(x), x.shape[1]
    grad = grad.contiguous(memory_format=format)
    residual = None if residual is None else residual.contiguous(memory_format=format)
    weight, bias = _parameter(weight), _parameter(bias)
    x_grad = empty(tuple(x.shape), x.dtype, format)
    residual_grad = x.new_empty(0)
    if residual_needs_grad:
        residual_grad = empty(tuple(x.shape), x.dtype, format)
    weight_grad, bias_grad = (torch.empty(channels) for _ in range(2))
    _C.batch_norm_backward(
        DTYPES[x.dtype],
        grad.data_ptr(),
        x.data_ptr(),
        _address(residual),
        _address(weight),
        _address(bias),
        mean.data_ptr(),
        variance.data_ptr(),
        channel_view(x, 1),
        eps,
        getattr(_C.Activation, activation or "none"),
        x_grad.data_ptr(),
        residual_grad.data_ptr(),
        weight_grad.data_ptr(),
        bias_grad.data_ptr(),
        torch.get_num_threads(),
    )
    return x_grad, weight_grad, bias_grad, residual_grad


def _parameter(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float().contiguous()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
