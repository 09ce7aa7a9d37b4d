"""Batch norm with the statistics of the batch in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.channels import dense_format
from cvperf.backends.reference.activation import activate
from cvperf.backends.reference.elementwise import along
from cvperf.backends.registry import FLOATING, register

_ACROSS = (0, 2, 3)


@register("batch_norm", "reference", "cpu", FLOATING, automatic=False)
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The answer, and the mean and biased variance of each channel, which are float64."""
    wide = x.double()
    mean, variance = wide.mean(_ACROSS), wide.var(_ACROSS, correction=0)
    value = (wide - along(mean, 1, x)) / along((variance + eps).sqrt(), 1, x)
    if weight is not None:
        value = value * along(weight.double(), 1, x)
    if bias is not None:
        value = value + along(bias.double(), 1, x)
    if residual is not None:
        value = value + residual.double()
    value = activate(activation, value).to(x.dtype)
    return value.contiguous(memory_format=dense_format(x)), mean, variance


@register("batch_norm_backward", "reference", "cpu", FLOATING, automatic=False)
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
    """Autograd through the forward; mean and variance are those of x and found again."""
    channels = x.shape[1]
    with torch.enable_grad():
        parts = [
            x.detach().double(),
            torch.ones(channels).double() if weight is None else weight.detach().double(),
            torch.zeros(channels).double() if bias is None else bias.detach().double(),
            torch.zeros(()).double() if residual is None else residual.detach().double(),
        ]
        for part in parts:
            part.requires_grad_()
        output = batch_norm(parts[0], parts[1], parts[2], parts[3], eps, activation)[0]
        grads = torch.autograd.grad(output, parts, grad.double())
    format = dense_format(x)
    x_grad = grads[0].to(x.dtype).contiguous(memory_format=format)
    residual_grad = x.new_empty(0)
    if residual_needs_grad:
        residual_grad = grads[3].to(x.dtype).contiguous(memory_format=format)
    return x_grad, grads[1].float(), grads[2].float(), residual_grad
