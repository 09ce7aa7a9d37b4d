"""Layers of one bit: signs times signs, with one scale a filter.

They keep their weights as floating-point numbers, the latent weights, which the optimiser moves;
only their signs and the mean of their sizes take part. In training mode, where gradients are asked
for, and on a GPU torch computes with numbers that are +1 and -1. Otherwise the layers run on bits
by :func:`cvperf.ops.conv2d_binary`, and :func:`cvperf.optimize` packs the weights once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf.errors import ArgumentError, describe
from cvperf.ops import conv2d_binary
from cvperf.ops._convolution import as_pair

_ON_BITS = (torch.float16, torch.bfloat16, torch.float32)


class _Sign(torch.autograd.Function):
    """Straight through: the gradient of the identity, cut off beyond 1 on both sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= 1, grads[0], 0.0)


def sign(x: Tensor) -> Tensor:
    """+1 where ``x >= 0`` (0 and -0 as well), else, and for NaN, -1; of x's dtype.

    Its gradient is that of the identity where ``abs(x) <= 1`` and 0 elsewhere.

    Source: Hubara et al., "Binarized Neural Networks", NeurIPS 2016, section 1.3.
    """
    result: Tensor = _Sign.apply(x)
    return result


def clip_latent_weights(model: nn.Module) -> None:
    """Put the latent weights of a model's binary layers back into -1 to 1, in place.

    To be called after each step of the optimiser: beyond 1 a weight has nearly no gradient that
    could bring its sign back (Courbariaux et al., "BinaryConnect", NeurIPS 2015, section 2.4).
    """
    for module in model.modules():
        if isinstance(module, (BinaryConv2d, BinaryLinear)):
            with torch.no_grad():
                module.weight.clamp_(-1, 1)


class BinaryConv2d(nn.Module):
    """2-D convolution of ``sign(x)`` with ``sign(weight)``, times the mean of ``abs(weight)``.

    ``y[:, o] = conv2d(sign(x), sign(weight[o])) * mean(abs(weight[o])) + bias[o]``, padded with
    zeros behind the sign. Signs and their gradients are those of :func:`sign`; the scale has its
    gradient, too. There are no groups. A batch norm ahead of it spreads the signs, and one behind
    it becomes part of scale and bias under :func:`cvperf.optimize`.

    Shapes: x [N, C, H, W] -> [N, O, OH, OW], floating point, in x's dtype; ``weight`` and ``bias``
    must have that dtype as well.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: one int or (vertical, horizontal).
        stride: output step in pixels, likewise.
        padding: on each side in pixels, likewise.
        dilation: pixels between the taps of the kernel, likewise.
        bias: whether there is a bias.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        weight: [O, C, kh, kw], the latent weights.
        bias: [O] or None.

    Raises:
        ArgumentError: a size is out of range; at the call, x does not fit.
        TypeError: a size is no integer.

    Complexity: N * O * OH * OW * C * kh * kw products, of one bit each without gradients.

    Source: Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
    Networks", ECCV 2016; without the scales of the image.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = _size("in_channels", in_channels)
        self.out_channels = _size("out_channels", out_channels)
        self.kernel_size = as_pair("kernel_size", kernel_size, 1)
        self.stride = as_pair("stride", stride, 1)
        self.padding = as_pair("padding", padding, 0)
        self.dilation = as_pair("dilation", dilation, 1)
        shape = (out_channels, in_channels, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        _add_bias(self, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random numbers as torch's own convolution starts from."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        _check("x", x, self.weight, "[N, C, H, W]", self.in_channels, x.dim() == 4, 1)
        window = (self.stride, self.padding, self.dilation)
        if _asks_for_gradient(self, x):
            return _finished(F.conv2d(sign(x), sign(self.weight), None, *window), self)
        stride, padding, dilation = window
        return conv2d_binary(
            x,
            self.weight,
            scale=_scale(self).float(),
            bias=_widened(self.bias),
            stride=stride,
            padding=padding,
            dilation=dilation,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"bias={self.bias is not None}"
        )


class BinaryLinear(nn.Module):
    """Fully connected layer of ``sign(x)`` and ``sign(weight)``, times the mean of ``abs(weight)``.

    ``y[..., o] = sum(sign(x) * sign(weight[o])) * mean(abs(weight[o])) + bias[o]``; else as
    :class:`BinaryConv2d`.

    Shapes: x [..., in_features] -> [..., out_features].

    Args:
        in_features: numbers of a row of x.
        out_features: numbers of a row of the output.
        bias: whether there is a bias.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        weight: [out_features, in_features], the latent weights.
        bias: [out_features] or None.

    Raises:
        ArgumentError: a size is out of range; at the call, x does not fit.
        TypeError: a size is no integer.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = _size("in_features", in_features)
        self.out_features = _size("out_features", out_features)
        shape = (out_features, in_features)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        _add_bias(self, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random numbers as torch's own linear layer starts from."""
        _reset(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        _check("x", x, self.weight, "[..., in_features]", self.in_features, x.dim() > 0, -1)
        if _asks_for_gradient(self, x):
            return _finished(F.linear(sign(x), sign(self.weight)), self)
        pixels = x.reshape(-1, self.in_features, 1, 1)
        weight, bias = self.weight[:, :, None, None], _widened(self.bias)
        y = conv2d_binary(pixels, weight, scale=_scale(self).float(), bias=bias)
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


_Layer = BinaryConv2d | BinaryLinear


def _size(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {describe(value)}")
    if value < 1:
        raise ArgumentError(f"{name} must be at least 1, got {value}")
    return value


def _add_bias(layer: _Layer, wanted: bool) -> None:
    weight = layer.weight
    bias = nn.Parameter(weight.new_empty(weight.shape[0])) if wanted else None
    layer.register_parameter("bias", bias)


def _reset(weight: Tensor, bias: Tensor | None) -> None:
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound)


def _check(
    name: str, x: Tensor, weight: Tensor, shape: str, channels: int, ranked: bool, dim: int
) -> None:
    if not ranked or x.shape[dim] != channels:
        raise ArgumentError(
            f"{name} must be {name}{shape} with {channels} channels, got {describe(x)}"
        )
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ArgumentError(
            f"{name} and weight must have the same dtype and device: {name} is {describe(x)}, "
            f"weight is {describe(weight)}. Convert one with .to()"
        )


def _asks_for_gradient(layer: _Layer, x: Tensor) -> bool:
    """Whether torch is to compute: for gradients, and where no kernel of bits is."""
    wanted = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
    return layer.training or wanted or x.device.type != "cpu" or x.dtype not in _ON_BITS


def _scale(layer: _Layer) -> Tensor:
    return layer.weight.abs().flatten(1).mean(1)


def _widened(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()


def _finished(sums: Tensor, layer: _Layer) -> Tensor:
    """Sums of a layer's channels, scaled and shifted."""
    dims = (-1, 1, 1) if isinstance(layer, BinaryConv2d) else (-1,)
    y = sums * _scale(layer).view(dims)
    return y if layer.bias is None else y + layer.bias.view(dims)
