"""Convolution and its gradients by torch, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import grad as gradients

from cvperf.backends.reference.activation import activate
from cvperf.backends.registry import FLOATING, convolution_format, register


@register("conv2d", "reference", "cpu", FLOATING, automatic=False)
def conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
    packed: Tensor | None = None,
    algorithm: str = "automatic",
) -> Tensor:
    """torch's convolution and activation in float64, rounded once; neither packs nor chooses."""
    wide_bias = None if bias is None else bias.double()
    output = torch.nn.functional.conv2d(
        image.double(),
        weight.double(),
        wide_bias,
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
    )
    if residual is not None:
        output = output + residual.double()
    output = activate(activation, output)
    return output.to(image.dtype).contiguous(memory_format=convolution_format(image, weight))


@register("conv2d_input_grad", "reference", "cpu", FLOATING, automatic=False)
def conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """torch's gradient in float64, rounded once."""
    image_grad = gradients.conv2d_input(
        tuple(input_size), weight.double(), grad.double(), stride, padding, dilation, groups
    ).to(grad.dtype)
    return image_grad.contiguous(memory_format=convolution_format(grad, weight))


@register("conv2d_weight_grad", "reference", "cpu", FLOATING, automatic=False)
def conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """torch's gradient in float64, rounded once."""
    weight_grad = gradients.conv2d_weight(
        image.double(), tuple(weight_size), grad.double(), stride, padding, dilation, groups
    ).to(grad.dtype)
    return weight_grad.contiguous(memory_format=convolution_format(image, grad))
