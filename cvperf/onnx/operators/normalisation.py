"""Batch, instance, layer, group and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import Value


@operator("BatchNormalization")
def batch_normalization(node: Node) -> Value:
    data, mean, variance = node.tensor(0), node.tensor(3), node.tensor(4)
    if node.attribute("training_mode", 0):
        raise node.unsupported("it is in training mode; export the model in evaluation mode")
    if not node.attribute("spatial", 1):
        raise node.unsupported("spatial=0 normalises each pixel by itself")
    weight, bias, epsilon = node.weight(1), node.weight(2), node.attribute("epsilon", 1e-5)
    return node.emit(
        F.batch_norm, data, mean, variance, weight, bias, False, 0.0, epsilon, rank=data.rank
    )


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Value:
    data, weight, bias = node.tensor(0), node.weight(1), node.weight(2)
    epsilon = node.attribute("epsilon", 1e-5)
    return node.emit(normalized_instances, data, weight, bias, epsilon, rank=data.rank)


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Sequence[Value]:
    data, weight, bias = node.tensor(0), node.weight(1), node.optional_weight(2)
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    result = node.emit(normalized_layer, data, weight, bias, axis, epsilon, rank=data.rank)
    # Files name the mean and the deviation even where nobody reads them; dead code is removed.
    statistics = node.builder.tensors(2, layer_statistics, data, axis, epsilon, rank=data.rank)
    return [result, *statistics]


@operator("GroupNormalization", since=18)
def group_normalization_of_groups(node: Node) -> Value:
    """Scale and bias have one number a group."""
    data, weight, bias = node.tensor(0), node.tensor(1), node.tensor(2)
    groups, epsilon = node.attribute("num_groups"), node.attribute("epsilon", 1e-5)
    return node.emit(grouped_scale, data, groups, weight, bias, epsilon, rank=data.rank)


@operator("GroupNormalization", since=21)
def group_normalization(node: Node) -> Value:
    data, weight, bias = node.tensor(0), node.weight(1), node.weight(2)
    groups, epsilon = node.attribute("num_groups"), node.attribute("epsilon", 1e-5)
    return node.emit(F.group_norm, data, groups, weight, bias, epsilon, rank=data.rank)


@operator("RMSNormalization")
def rms_normalization(node: Node) -> Value:
    data, weight = node.tensor(0), node.weight(1)
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    return node.emit(normalized_square, data, weight, axis, epsilon, rank=data.rank)


@operator("LpNormalization")
def lp_normalization(node: Node) -> Value:
    data = node.tensor(0)
    order, axis = node.attribute("p", 2), node.attribute("axis", -1)
    return node.emit(unit_norm, data, order, axis, rank=data.rank)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Value:
    data = node.tensor(0)
    axes = tuple(node.attribute("axes", (0, 2, 3)))
    return node.emit(standardized, data, axes, rank=data.rank)


@operator("LRN")
def local_response_normalization(node: Node) -> Value:
    data = node.tensor(0)
    settings = (
        node.attribute("size"),
        node.attribute("alpha", 1e-4),
        node.attribute("beta", 0.75),
        node.attribute("bias", 1.0),
    )
    return node.emit(responses, data, *settings, rank=data.rank)


def normalized_instances(data: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """torch.nn.functional refuses an image of one pixel; ONNX does not."""
    return torch.instance_norm(data, weight, bias, None, None, True, 0.0, epsilon, False)


def normalized_layer(
    data: Tensor, weight: Tensor, bias: Tensor | None, axis: int, epsilon: float
) -> Tensor:
    shape = data.shape[axis:]
    if weight.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(data, shape, weight, bias, epsilon)
    normalized = F.layer_norm(data, shape, eps=epsilon) * weight
    return normalized if bias is None else normalized + bias


def layer_statistics(data: Tensor, axis: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and one over the standard deviation."""
    axes = tuple(range(axis % data.dim(), data.dim()))
    mean = data.mean(axes, keepdim=True)
    variance = (data - mean).square().mean(axes, keepdim=True)
    return mean, torch.rsqrt(variance + epsilon)


def grouped_scale(
    data: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float
) -> Tensor:
    channels = data.shape[1] // groups
    weight, bias = weight.repeat_interleave(channels), bias.repeat_interleave(channels)
    return F.group_norm(data, groups, weight, bias, epsilon)


def normalized_square(data: Tensor, weight: Tensor, axis: int, epsilon: float) -> Tensor:
    axes = tuple(range(axis % data.dim(), data.dim()))
    return data * torch.rsqrt(data.square().mean(axes, keepdim=True) + epsilon) * weight


def unit_norm(data: Tensor, order: int, axis: int) -> Tensor:
    """A vector of zeros stays one."""
    norm = torch.linalg.vector_norm(data, order, axis, keepdim=True)
    return data / torch.where(norm == 0, torch.ones_like(norm), norm)


def standardized(data: Tensor, axes: tuple[int, ...]) -> Tensor:
    centred = data - data.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def responses(data: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Of an even size, one channel more counts above than below; in torch it is the other way."""
    before = (size - 1) // 2
    squares = data.square().flatten(2)[:, None]
    padded = F.pad(squares, (0, 0, before, size - 1 - before))
    sums = F.avg_pool2d(padded, (size, 1), stride=1) * alpha + bias
    return data / sums.reshape(data.shape).pow(beta)
