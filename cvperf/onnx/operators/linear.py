"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.node import Node, rank_of
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Constant, TensorValue, Value


@operator("MatMul")
def matmul(node: Node) -> Value:
    left, right = node.tensor(0), node.weight(1)
    if isinstance(right, Constant) and right.rank == 2 and not isinstance(left, Constant):
        return node.emit(F.linear, left, transposed(node, right), rank=left.rank)
    both = left.rank is not None and right.rank is not None and min(left.rank, right.rank) >= 2
    return node.emit(torch.matmul, left, right, rank=rank_of(left, right) if both else None)


@operator("Gemm")
def gemm(node: Node) -> Value:
    left, right, bias = node.tensor(0), node.weight(1), node.optional_weight(2)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        left = node.emit(torch.t, left, rank=2)
    if alpha == 1.0 and (bias is None or (beta == 1.0 and _is_vector(bias))):
        weight = right if node.attribute("transB", 0) else transposed(node, right)
        return node.emit(F.linear, left, weight, bias, rank=2)
    if node.attribute("transB", 0):
        right = transposed(node, right)
    return node.emit(scaled_product, left, right, bias, alpha, beta, rank=2)


def _is_vector(bias: TensorValue) -> bool:
    return isinstance(bias, Constant) and bias.rank == 1 and bias.tensor.numel() > 1


def transposed(node: Node, weight: TensorValue) -> TensorValue:
    """The transpose of a matrix; that of a parameter is the parameter."""
    result = node.emit(torch.t, weight, rank=2)
    if isinstance(result, Constant) and isinstance(weight, Constant):
        result.name, result.trainable = weight.name, weight.trainable
    return result


@operator("Einsum")
def einsum(node: Node) -> Value:
    equation = node.attribute("equation")
    _, arrow, output = equation.replace(" ", "").partition("->")
    rank = len(output) if arrow and "." not in output else None
    return node.emit(torch.einsum, equation, *node.tensors(), rank=rank)


def scaled_product(
    left: Tensor, right: Tensor, bias: Tensor | None, alpha: float, beta: float
) -> Tensor:
    product = alpha * (left @ right) if left.is_floating_point() else left @ right
    return product if bias is None else product + beta * bias
