"""Quantised models, computed in float: integers are dequantised, results rounded to integers.

Weights are constants, so they are dequantised once, while the model is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.onnx.dtypes import torch_dtype
from cvperf.onnx.node import Node
from cvperf.onnx.operators.convolution import convolution
from cvperf.onnx.operators.elementwise import converted
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, TensorValue, Value


@operator("QuantizeLinear")
def quantize_linear(node: Node) -> Value:
    data, scale, zero = node.tensor(0), node.tensor(1), node.optional(2)
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    number = node.attribute("output_dtype", 0)
    dtype = torch_dtype(node, number) if number else None
    return node.emit(quantized, data, scale, zero, axis, block, dtype, rank=data.rank)


@operator("DequantizeLinear")
def dequantize_linear(node: Node) -> Value:
    data, scale, zero = node.tensor(0), node.tensor(1), node.optional(2)
    axis, block = node.attribute("axis", 1), node.attribute("block_size", 0)
    result = node.emit(dequantized, data, scale, zero, axis, block, rank=data.rank)
    if isinstance(result, Constant) and isinstance(data, Constant):
        result.name = data.name
    return result


@operator("QLinearConv")
def qlinear_conv(node: Node) -> Value:
    data = _dequantized(node, 0)
    scale = node.tensor(4)
    weight = node.emit(
        dequantized, node.tensor(3), scale, node.optional(5), 0, 0, rank=_rank(node, 3)
    )
    bias = node.optional(8)
    if bias is not None:
        bias = node.emit(dequantized_bias, bias, node.tensor(1), scale, rank=1)
    result = convolution(node, data, weight, bias)
    return _quantized(node, result, 6)


@operator("QLinearMatMul")
def qlinear_matmul(node: Node) -> Value:
    """The scale of a row or a column may differ."""
    left = node.emit(dequantized_rows, *(node.tensor(i) for i in (0, 1, 2)), rank=_rank(node, 0))
    right = node.emit(
        dequantized_columns, *(node.tensor(i) for i in (3, 4, 5)), rank=_rank(node, 3)
    )
    product = node.emit(torch.matmul, left, right, rank=left.rank)
    return _quantized(node, product, 6)


@operator("ConvInteger")
def conv_integer(node: Node) -> Value:
    """Sums up to 2**24 are exact in float32."""
    data = node.emit(centred, node.tensor(0), node.optional(2), rank=_rank(node, 0))
    weight = node.emit(centred_filters, node.tensor(1), node.optional(3), rank=_rank(node, 1))
    result = convolution(node, data, weight, None)
    return node.emit(converted, result, torch.int32, rank=result.rank)


@operator("MatMulInteger")
def matmul_integer(node: Node) -> Value:
    left = node.emit(centred_rows, node.tensor(0), node.optional(2), rank=_rank(node, 0))
    right = node.emit(centred, node.tensor(1), node.optional(3), rank=_rank(node, 1))
    product = node.emit(torch.matmul, left, right, rank=left.rank)
    return node.emit(converted, product, torch.int32, rank=product.rank)


def _rank(node: Node, index: int) -> int | None:
    return node.value(index).rank


def _dequantized(node: Node, index: int) -> TensorValue:
    data, scale, zero = (node.tensor(index + offset) for offset in range(3))
    return node.emit(dequantized, data, scale, zero, 1, 0, rank=data.rank)


def _quantized(node: Node, data: TensorValue, index: int) -> TensorValue:
    scale, zero = node.tensor(index), node.tensor(index + 1)
    return node.emit(quantized, data, scale, zero, 1, 0, None, rank=data.rank)


def quantized(
    data: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    axis: int,
    block: int,
    dtype: torch.dtype | None,
) -> Tensor:
    """Round to even, shift, and cut to the integers of ``zero``'s dtype (uint8 without one)."""
    wanted = zero.dtype if zero is not None else dtype or torch.uint8
    steps = torch.round(data / _along(scale, data, axis, block))
    if zero is not None:
        steps = steps + _along(zero, data, axis, block)
    limits = torch.iinfo(wanted)
    return steps.clamp(limits.min, limits.max).to(wanted)


def dequantized(data: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int) -> Tensor:
    steps = data.to(torch.float32)
    if zero is not None:
        steps = steps - _along(zero, data, axis, block).to(torch.float32)
    return (steps * _along(scale, data, axis, block)).to(scale.dtype)


def dequantized_bias(bias: Tensor, scale_data: Tensor, scale_weight: Tensor) -> Tensor:
    return bias.to(torch.float32) * (scale_data * scale_weight)


def dequantized_rows(data: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    scale, zero = (_column(value) for value in (scale, zero))
    return (data.to(torch.float32) - zero.to(torch.float32)) * scale


def dequantized_columns(data: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return (data.to(torch.float32) - zero.to(torch.float32)) * scale


def centred(data: Tensor, zero: Tensor | None) -> Tensor:
    steps = data.to(torch.float32)
    return steps if zero is None else steps - zero.to(torch.float32)


def centred_rows(data: Tensor, zero: Tensor | None) -> Tensor:
    return centred(data, None if zero is None else _column(zero))


def centred_filters(weight: Tensor, zero: Tensor | None) -> Tensor:
    if zero is None or zero.numel() == 1:
        return centred(weight, zero)
    return centred(weight, zero.reshape(-1, *(1,) * (weight.dim() - 1)))


def _column(value: Tensor) -> Tensor:
    return value[..., None] if value.dim() == 1 and value.numel() > 1 else value


def _along(value: Tensor, data: Tensor, axis: int, block: int) -> Any:
    """Scales or zero points, one for all, one a channel or one a block, as they broadcast."""
    if block:
        repeated = value.repeat_interleave(block, axis)
        return repeated.narrow(axis, 0, data.shape[axis])
    if value.numel() == 1:
        return value.reshape(())
    shape = [1] * data.dim()
    shape[axis] = value.numel()
    return value.reshape(shape)
