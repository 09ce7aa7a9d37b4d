"""Convolution with bias and activation fused, and its two gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.backends.reference import activate
from cvperf.bench.problems.base import Problem, Shape, generator


@dataclass(frozen=True, kw_only=True)
class ConvolutionShape(Shape):
    """``activation(conv2d(image[n, c, h, w], weight[o, c / groups, kh, kw]) + bias[o])``."""

    op: ClassVar[str] = "conv2d"

    n: int
    c: int
    h: int
    w: int
    o: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    activation: str | None = None

    @property
    def output_size(self) -> tuple[int, int]:
        """(OH, OW)."""
        sides = zip(
            (self.h, self.w), self.kernel, self.stride, self.padding, self.dilation, strict=True
        )
        height, width = ((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in sides)
        return height, width

    @property
    def terms(self) -> int:
        """Products in one output value."""
        return self.c // self.groups * self.kernel[0] * self.kernel[1]

    @property
    def outputs(self) -> int:
        height, width = self.output_size
        return self.n * self.o * height * width

    @property
    def flop(self) -> int:
        return 2 * self.outputs * self.terms

    @property
    def bytes(self) -> int:
        inputs = self.n * self.c * self.h * self.w + self.o * self.terms + self.o * self.bias
        return (inputs + self.outputs) * self.torch_dtype.itemsize

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "input": (self.n, self.c, self.h, self.w),
            "weight": (self.o, self.c // self.groups, *self.kernel),
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias,
            "activation": self.activation,
        }

    def problem(self, seed: int = 0, device: str = "cpu") -> Convolution:
        return Convolution(self, seed, device)


class Convolution(Problem):
    """The tensors of one convolution, in the shape's dtype and layout."""

    shape: ConvolutionShape

    def __init__(self, shape: ConvolutionShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)

        def normal(*size: int) -> Tensor:
            return torch.randn(size, generator=random, device=device)

        weight = normal(shape.o, shape.c // shape.groups, *shape.kernel) / shape.terms**0.5
        image = normal(shape.n, shape.c, shape.h, shape.w)
        self.image = image.to(shape.torch_dtype, memory_format=shape.memory_format)
        self.weight = weight.to(shape.torch_dtype, memory_format=shape.memory_format)
        self.bias = normal(shape.o).to(shape.torch_dtype) if shape.bias else None
        self.stride, self.padding = shape.stride, shape.padding
        self.dilation, self.groups, self.activation = shape.dilation, shape.groups, shape.activation

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """(stride, padding, dilation, groups), in the order of ``torch.nn.functional.conv2d``."""
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def terms(self) -> int:
        return self.shape.terms

    def reference(self) -> Tensor:
        bias = None if self.bias is None else self.bias.double()
        answer = F.conv2d(self.image.double(), self.weight.double(), bias, *self.geometry)
        return activate(self.activation, answer)


@dataclass(frozen=True, kw_only=True)
class InputGradShape(ConvolutionShape):
    """The gradient of the image: grad[n, o, oh, ow] with weight back to [n, c, h, w]."""

    op: ClassVar[str] = "conv2d_input_grad"

    def problem(self, seed: int = 0, device: str = "cpu") -> InputGrad:
        return InputGrad(self, seed, device)


@dataclass(frozen=True, kw_only=True)
class WeightGradShape(ConvolutionShape):
    """The gradient of the weight: grad[n, o, oh, ow] with image to [o, c / groups, kh, kw]."""

    op: ClassVar[str] = "conv2d_weight_grad"

    def problem(self, seed: int = 0, device: str = "cpu") -> WeightGrad:
        return WeightGrad(self, seed, device)


class Gradient(Convolution):
    """The convolution's tensors and ``grad`` of its output, before bias and activation."""

    def __init__(self, shape: ConvolutionShape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        size = (shape.n, shape.o, *shape.output_size)
        grad = torch.randn(size, generator=generator(seed + 1, device), device=device)
        self.grad = grad.to(shape.torch_dtype, memory_format=shape.memory_format)

    def gradients(self, wanted: tuple[bool, bool, bool]) -> tuple[Tensor | None, ...]:
        """torch's own gradients (image, weight, bias) of this convolution in float64."""
        return torch.ops.aten.convolution_backward(
            self.grad.double(),
            self.image.double(),
            self.weight.double(),
            [self.shape.o],
            *self.geometry[:3],
            False,
            [0, 0],
            self.groups,
            wanted,
        )


class InputGrad(Gradient):
    """Wanted: the gradient of the image."""

    @property
    def terms(self) -> int:
        kernel = self.shape.kernel[0] * self.shape.kernel[1]
        return self.shape.o // self.groups * kernel

    def reference(self) -> Tensor:
        answer = self.gradients((True, False, False))[0]
        assert answer is not None
        return answer


class WeightGrad(Gradient):
    """Wanted: the gradient of the weight."""

    @property
    def terms(self) -> int:
        height, width = self.shape.output_size
        return self.shape.n * height * width

    def reference(self) -> Tensor:
        answer = self.gradients((False, True, False))[1]
        assert answer is not None
        return answer
