"""INT8 matrix product, to int32 sums or dequantised to float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.accuracy import tolerance
from cvperf.bench.problems.base import Problem, Shape, generator


@dataclass(frozen=True, kw_only=True)
class Int8GemmShape(Shape):
    """``a[m, k] @ b[n, k].T`` of int8; b is a linear layer's weight, packed before the clock runs.

    With ``fused``, the sums become ``float32(sum) * scale_a * scale_b[n] + bias[n]``.
    """

    op: ClassVar[str] = "int8_gemm"

    m: int
    n: int
    k: int
    fused: bool = False
    dtype: str = "int8"
    layout: str = "n/a"

    @property
    def flop(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        return (self.m + self.n) * self.k + 4 * self.m * self.n + 8 * self.n * self.fused

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"m": self.m, "n": self.n, "k": self.k, "fused": self.fused}

    def problem(self, seed: int = 0, device: str = "cpu") -> Int8Gemm:
        return Int8Gemm(self, seed, device)


class Int8Gemm(Problem):
    """a [M, K] and b [N, K] in int8; scale_a one number, scale_b [N] and bias [N] in float32."""

    shape: Int8GemmShape

    def __init__(self, shape: Int8GemmShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)

        def int8(*size: int) -> Tensor:
            return torch.randint(-128, 128, size, generator=random, device=device, dtype=torch.int8)

        self.a, self.b = int8(shape.m, shape.k), int8(shape.n, shape.k)
        self.fused = shape.fused
        self.scale_a = 0.02
        self.scale_b = 0.01 + 0.01 * torch.rand(shape.n, generator=random, device=device)
        self.bias = torch.randn(shape.n, generator=random, device=device)

    @property
    def tolerance(self) -> float:
        return tolerance(torch.float32) if self.fused else 0.0

    def reference(self) -> Tensor:
        # int8 products summed in float64 are exact: at most k * 2^14 < 2^53.
        sums = self.a.double() @ self.b.double().T
        if not self.fused:
            return sums.to(torch.int64)
        return sums * self.scale_a * self.scale_b.double() + self.bias.double()
