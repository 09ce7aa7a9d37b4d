"""INT8 convolution as a quantised network calls it: uint8 in, uint8 out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.backends.reference import activate
from cvperf.bench.problems.base import Problem, generator
from cvperf.bench.problems.conv2d import ConvolutionShape

STEPS = 255


@dataclass(frozen=True, kw_only=True)
class Conv2dInt8Shape(ConvolutionShape):
    """A convolution of uint8 by int8 with a scale a filter, requantised to uint8.

    The weight is packed before the clock runs.
    """

    op: ClassVar[str] = "conv2d_int8"

    dtype: str = "uint8"

    @property
    def bytes(self) -> int:
        return super().bytes + (4 + 3 * self.bias) * self.o  # scale and bias are float32

    # The numbers are those of a convolution, the tensors are not.
    def problem(  # type: ignore[override]
        self, seed: int = 0, device: str = "cpu"
    ) -> Conv2dInt8:
        return Conv2dInt8(self, seed, device)


class Conv2dInt8(Problem):
    """image uint8 [N, C, H, W], weight int8, and float32 scale_weight [O] and bias [O].

    The output's scale is such that about four standard deviations of the sums fit.
    """

    shape: Conv2dInt8Shape

    def __init__(self, shape: Conv2dInt8Shape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)

        def integers(low: int, high: int, dtype: torch.dtype, *size: int) -> Tensor:
            return torch.randint(low, high, size, generator=random, device=device, dtype=dtype)

        image = integers(0, 256, torch.uint8, shape.n, shape.c, shape.h, shape.w)
        self.image = image.contiguous(memory_format=shape.memory_format)
        weight_size = (shape.o, shape.c // shape.groups, *shape.kernel)
        # 7 bits, as torch's "x86" engine wants them: with 8 its depthwise kernel saturates.
        self.weight = integers(-64, 64, torch.int8, *weight_size)
        self.scale_image, self.zero_point = 0.02, 128
        self.scale_weight = 0.01 + 0.01 * torch.rand(shape.o, generator=random, device=device)
        self.spread = 74.0 * 37.0 * shape.terms**0.5  # of the sums; of 256 integers it is 74
        self.scale_output = 8 * self.spread * self.scale_image * 0.015 / STEPS
        self.zero_output = 0 if shape.activation in ("relu", "relu6") else 128
        # Whole steps of the sums, so that runtimes with an integer bias have the same one.
        steps = torch.randn(shape.o, generator=random, device=device) * self.spread
        self.integer_bias = steps.round().int() if shape.bias else None

    @property
    def bias(self) -> Tensor | None:
        if self.integer_bias is None:
            return None
        return self.integer_bias.float() * (self.scale_weight * self.scale_image)

    @property
    def tolerance(self) -> float:
        """One step: float32 before the rounding may fall on the other side of a tie."""
        return 1.01 / STEPS

    def reference(self) -> Tensor:
        p = self.shape
        geometry = (p.stride, p.padding, p.dilation, p.groups)
        image = self.image.double() - self.zero_point
        value = F.conv2d(image, self.weight.double(), None, *geometry)
        value = value * self.scale_image * self.scale_weight.double().reshape(-1, 1, 1)
        if (bias := self.bias) is not None:
            value = value + bias.double().reshape(-1, 1, 1)
        value = activate(p.activation, value) / self.scale_output
        return (value.round() + self.zero_output).clamp(0, STEPS)

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """The largest difference in steps, over all of them."""
        if expected.shape != answer.shape:
            return float("inf")
        difference = (answer.detach().cpu().double() - expected.cpu()).abs()
        return difference.max().item() / STEPS if difference.numel() else 0.0
