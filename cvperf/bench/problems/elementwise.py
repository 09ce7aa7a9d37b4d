"""Element-wise passes: bias and activation, to and from 8 bits, images to floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.backends.reference import activate
from cvperf.bench.accuracy import tolerance
from cvperf.bench.problems.base import Problem, Shape, generator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which most networks are trained with."""


@dataclass(frozen=True, kw_only=True)
class FeaturesShape(Shape):
    """What is done to features [n, c, h, w]."""

    n: int
    c: int
    h: int
    w: int

    @property
    def elements(self) -> int:
        return self.n * self.c * self.h * self.w

    @property
    def flop(self) -> int:
        return 0  # a few an element: the roofline is that of the bytes

    @property
    def size(self) -> float:
        return float(self.elements)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"x": (self.n, self.c, self.h, self.w)}


@dataclass(frozen=True, kw_only=True)
class BiasActivationShape(FeaturesShape):
    """``bias_activation(x[n, c, h, w], bias[c], residual, activation)``."""

    op: ClassVar[str] = "bias_activation"

    activation: str | None = "relu"
    residual: bool = True

    @property
    def bytes(self) -> int:
        return (2 + self.residual) * self.elements * self.torch_dtype.itemsize

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {**super().numbers, "residual": self.residual, "activation": self.activation}

    def problem(self, seed: int = 0, device: str = "cpu") -> BiasActivation:
        return BiasActivation(self, seed, device)


class BiasActivation(Problem):
    """x and residual [N, C, H, W] in the layout, bias [C]."""

    shape: BiasActivationShape

    def __init__(self, shape: BiasActivationShape, seed: int, device: str) -> None:
        self.shape, self.activation = shape, shape.activation
        self.x = _features(shape, seed, device)
        self.residual = _features(shape, seed + 1, device) if shape.residual else None
        random = generator(seed + 2, device)
        bias = torch.randn(shape.c, generator=random, device=device)
        self.bias = bias.to(shape.torch_dtype)

    def reference(self) -> Tensor:
        value = self.x.double() + self.bias.double().view(-1, 1, 1)
        if self.residual is not None:
            value = value + self.residual.double()
        return activate(self.activation, value)


@dataclass(frozen=True, kw_only=True)
class QuantizeShape(FeaturesShape):
    """``quantize(x[n, c, h, w], scale, zero_point)`` to int8; one scale, or one a channel."""

    op: ClassVar[str] = "quantize"

    per_channel: bool = False

    @property
    def bytes(self) -> int:
        return self.elements * (self.torch_dtype.itemsize + 1)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {**super().numbers, "per_channel": self.per_channel}

    def problem(self, seed: int = 0, device: str = "cpu") -> Quantize:
        return Quantize(self, seed, device)


class Quantize(Problem):
    """x [N, C, H, W] in the layout, float32 scale and int32 zero point [C] or [1]."""

    shape: QuantizeShape

    def __init__(self, shape: QuantizeShape, seed: int, device: str) -> None:
        self.shape = shape
        self.x = _features(shape, seed, device)
        random = generator(seed + 1, device)
        count = shape.c if shape.per_channel else 1
        self.scale = 0.02 + 0.02 * torch.rand(count, generator=random, device=device)
        self.zero_point = torch.randint(
            -20, 20, (count,), generator=random, device=device, dtype=torch.int32
        )
        self.axis = 1 if shape.per_channel else None

    def along(self, values: Tensor) -> Tensor:
        """Parameters so that they broadcast over the features, in float64."""
        return values.double().view(-1, 1, 1)

    @property
    def tolerance(self) -> float:
        """One step of 255: float32 before the rounding may fall on the other side of a tie."""
        return 1.01 / 255

    def reference(self) -> Tensor:
        value = (self.x.double() / self.along(self.scale)).round() + self.along(self.zero_point)
        return value.clamp(-128, 127)

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """The largest difference in steps, over all of them."""
        if expected.shape != answer.shape:
            return float("inf")
        return float((answer.double() - expected).abs().max()) / 255


@dataclass(frozen=True, kw_only=True)
class DequantizeShape(QuantizeShape):
    """``dequantize(q[n, c, h, w], scale, zero_point)`` of int8; the dtype is the answer's."""

    op: ClassVar[str] = "dequantize"

    def problem(self, seed: int = 0, device: str = "cpu") -> Dequantize:
        return Dequantize(self, seed, device)


class Dequantize(Quantize):
    """q int8 [N, C, H, W] in the layout, and the parameters."""

    def __init__(self, shape: DequantizeShape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        self.q = super().reference().to(torch.int8).contiguous(memory_format=shape.memory_format)

    @property
    def tolerance(self) -> float:
        return tolerance(self.shape.torch_dtype)

    def reference(self) -> Tensor:
        return (self.q.double() - self.along(self.zero_point)) * self.along(self.scale)

    error = Problem.error


@dataclass(frozen=True, kw_only=True)
class NormalizeImageShape(Shape):
    """``normalize_image`` of n images of h x w pixels; ``layout`` is the answer's."""

    op: ClassVar[str] = "normalize_image"

    n: int
    h: int
    w: int
    order: str = "NHWC"
    """Of the image's dimensions: ``"NHWC"`` or ``"NCHW"``."""

    @property
    def flop(self) -> int:
        return 0

    @property
    def bytes(self) -> int:
        return 3 * self.n * self.h * self.w * (1 + self.torch_dtype.itemsize)

    @property
    def size(self) -> float:
        return float(3 * self.n * self.h * self.w)

    @property
    def numbers(self) -> Mapping[str, Any]:
        sizes = {"N": self.n, "C": 3, "H": self.h, "W": self.w}
        return {"image": tuple(sizes[letter] for letter in self.order), "order": self.order}

    def problem(self, seed: int = 0, device: str = "cpu") -> NormalizeImage:
        return NormalizeImage(self, seed, device)


class NormalizeImage(Problem):
    """image uint8 [N, H, W, 3] or [N, 3, H, W]; ``planes`` is its view [N, 3, H, W]."""

    shape: NormalizeImageShape

    def __init__(self, shape: NormalizeImageShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)
        size = (shape.n, shape.h, shape.w, 3)
        pixels = torch.randint(0, 256, size, generator=random, device=device, dtype=torch.uint8)
        self.planes = pixels.permute(0, 3, 1, 2)
        self.image = pixels
        if shape.order == "NCHW":
            self.image = self.planes = self.planes.contiguous()

    def reference(self) -> Tensor:
        mean, std = (
            torch.tensor(each, device=self.planes.device).double().view(-1, 1, 1)
            for each in (MEAN, STD)
        )
        return (self.planes.double() / 255 - mean) / std


def _features(shape: FeaturesShape, seed: int, device: str) -> Tensor:
    random = generator(seed, device)
    size = (shape.n, shape.c, shape.h, shape.w)
    x = torch.randn(size, generator=random, device=device).to(shape.torch_dtype)
    return x.contiguous(memory_format=shape.memory_format)
