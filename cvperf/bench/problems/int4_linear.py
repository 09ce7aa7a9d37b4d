"""Linear layer with 4-bit weights and a scale for each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.problems.base import Problem, Shape, generator
from cvperf.ops import pack_int4


@dataclass(frozen=True, kw_only=True)
class Int4LinearShape(Shape):
    """``x[m, k] @ w[n, k].T + bias`` with w in 4 bits, a scale for each ``group`` of k."""

    op: ClassVar[str] = "int4_linear"

    m: int
    n: int
    k: int
    group: int = 128
    dtype: str = "float16"
    layout: str = "n/a"

    @property
    def flop(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        size = self.torch_dtype.itemsize
        weight = self.n * self.k // 2 + size * self.n * self.k // self.group
        return weight + size * (self.m * (self.k + self.n) + self.n)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"m": self.m, "n": self.n, "k": self.k, "group": self.group}

    def problem(self, seed: int = 0, device: str = "cpu") -> Int4Linear:
        return Int4Linear(self, seed, device)


class Int4Linear(Problem):
    """x [M, K]; values [N, K] of -8 to 7, scale [N, K / group] and bias [N]; packed weight."""

    shape: Int4LinearShape

    def __init__(self, shape: Int4LinearShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)
        on: dict[str, Any] = {"generator": random, "device": device}
        m, n, k, dtype = shape.m, shape.n, shape.k, shape.torch_dtype
        self.values = torch.randint(-8, 8, (n, k), dtype=torch.int8, **on)
        self.weight = pack_int4(self.values)
        self.scale = (0.01 + 0.01 * torch.rand(n, k // shape.group, **on)).to(dtype)
        self.x, self.bias = torch.randn(m, k, **on).to(dtype), torch.randn(n, **on).to(dtype)

    @property
    def terms(self) -> int:
        return self.shape.k

    def expanded(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K] as a layer without quantisation has it."""
        scale = self.scale.to(dtype).repeat_interleave(self.shape.group, 1)
        return self.values.to(dtype) * scale

    def reference(self) -> Tensor:
        return self.x.double() @ self.expanded(torch.float64).T + self.bias.double()
