"""A whole network on 8-bit integers: every peer quantises the same module on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf import _C
from cvperf.bench.problems.base import generator
from cvperf.bench.problems.model import Model, ModelShape, first_tensor

CALIBRATION = 4
"""Batches to choose ranges by."""


@dataclass(frozen=True, kw_only=True)
class ModelInt8Shape(ModelShape):
    """As :class:`ModelShape`; how a peer quantises is its own choice, in and out are float32."""

    op: ClassVar[str] = "model_int8"

    dtype: str = "int8"
    devices: tuple[str, ...] = ("cpu",)

    @property
    def weights_dtype(self) -> torch.dtype:
        return torch.float32

    def problem(self, seed: int = 0, device: str = "cpu") -> ModelInt8:
        return ModelInt8(self, seed, device)


class ModelInt8(Model):
    """Also ``calibration``: arguments of :data:`CALIBRATION` calls, one tensor each, that are not
    the timed one."""

    shape: ModelInt8Shape

    def __init__(self, shape: ModelInt8Shape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        random = generator(seed + 1, device)
        images = (
            torch.rand(shape._input_size, generator=random, device=device)
            for _ in range(CALIBRATION)
        )
        self.calibration = tuple(image.to(memory_format=shape.memory_format) for image in images)

    @property
    def weight_bits(self) -> int:
        """For every contender that lets its weights' bits be chosen: 7 where the processor has no
        dot product of bytes, whose predecessor saturates on 8 or makes twice the work of them."""
        return 8 if {"avx_vnni", "avx512_vnni"} & set(_C.available_isas()) else 7

    @property
    def tolerance(self) -> float:
        # Of the cosine's distance from 1. Random weights quantise worse than trained ones: what is
        # beyond this has nothing to do with the float network any more.
        return 0.15

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """1 less the cosine with the float64 answer; infinite where shapes differ or for a NaN."""
        answer = first_tensor(answer).detach().cpu().double()
        if answer.shape != expected.shape:
            return math.inf
        cosine = float(F.cosine_similarity(expected.flatten(), answer.flatten(), dim=0))
        return math.inf if math.isnan(cosine) else max(0.0, 1 - cosine)
