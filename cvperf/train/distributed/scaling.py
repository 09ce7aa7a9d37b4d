"""How fast data-parallel training should be on many GPUs: predictions, not measurements.

A step is a forward and a backward of the batch of one GPU; gradients are all-reduced in buckets
while the backward goes on, as DistributedDataParallel does (Li et al., 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from cvperf.errors import ArgumentError
from cvperf.train.distributed.compression import Compression

Shapes = Sequence[Sequence[int]]

BACKWARD = 2 / 3
"""Share of a step's computing that is the backward: two products for each one of the forward."""

_PASSES = {"none": 0.0, "fp16": 3.0, "bf16": 3.0, "powersgd": 11.0}
"""Times the float32 gradients are read or written to compress and decompress: for halves 1 + 0.5
each way, for PowerSGD as torch's hook does it (add the error 3, keep a copy 2, two products 2,
product of the factors 1, new error 3)."""

_LAUNCHES = 12
"""Kernels that PowerSGD starts for each matrix."""


@dataclass(frozen=True)
class Gpu:
    """What compressing costs: bytes per second of memory, and seconds to start a kernel."""

    bandwidth: float
    launch: float = 5e-6


@dataclass(frozen=True)
class Step:
    """A predicted step, in seconds."""

    compute: float
    compress: float
    exposed: float
    """Communication that the backward does not hide."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute + self.compress + self.exposed

    @property
    def efficiency(self) -> float:
        """Throughput of a GPU among the many, over that of one alone."""
        return self.compute / self.seconds


def payload(shapes: Shapes, compression: Compression) -> int:
    """Bytes that a process hands to all-reduces in a step, by the rules of torch's hooks.

    Args:
        shapes: of the parameters, with float32 gradients.
        compression: how; PowerSGD as after its ``start_step``.
    """
    width = {"none": 4, "fp16": 2, "bf16": 2}
    if compression.kind != "powersgd":
        return width[compression.kind] * sum(map(prod, shapes))
    elements = sum(_factors(shape, compression.rank) or prod(shape) for shape in shapes)
    return width.get(compression.factors, 4) * elements


def _factors(shape: Sequence[int], rank: int) -> int:
    """Elements of a gradient's two factors, 0 if it travels whole: torch asks for half the size."""
    rows, columns = (shape[0], prod(shape[1:])) if shape else (1, 1)
    rank = min(rows, columns, rank)
    small = (rows + columns) * rank
    return small if 2 * small < rows * columns else 0


def compressing(shapes: Shapes, compression: Compression, gpu: Gpu) -> float:
    """Seconds that compressing and decompressing a step's gradients takes on a GPU."""
    matrices = sum(_factors(shape, compression.rank) > 0 for shape in shapes)
    launches = _LAUNCHES * matrices if compression.kind == "powersgd" else 0
    gradients = 4 * sum(map(prod, shapes))
    return _PASSES[compression.kind] * gradients / gpu.bandwidth + launches * gpu.launch


def step(
    compute: float,
    shapes: Shapes,
    all_reduce: Callable[[float], float],
    *,
    compression: Compression | None = None,
    gpu: Gpu | None = None,
    start: float = 8.4e-6,
    bucket: float = 25 * 2**20,
) -> Step:
    """Predict a step.

    Gradients are taken to appear at an even pace through the backward. Convolutional networks have
    most parameters in their last layers, whose gradients appear first, so more is hidden than this.

    Args:
        compute: seconds of forward and backward on one GPU alone.
        shapes: of the parameters, with float32 gradients.
        all_reduce: seconds for some bytes.
        compression: None for none.
        gpu: needed with compression.
        start: seconds to start a collective.
        bucket: bytes of gradients that are sent at once; the first has 1 MiB, as in torch.

    Raises:
        ArgumentError: a compression without a GPU, or ``compute`` is not above 0.
    """
    if compute <= 0:
        raise ArgumentError(f"compute must be above 0 seconds, got {compute}")
    compression = compression or Compression()
    if compression.kind != "none" and gpu is None:
        raise ArgumentError(f"gpu must be given to know what {compression.kind} costs, got None")
    extra = compressing(shapes, compression, gpu) if gpu else 0.0
    gradients = 4 * sum(map(prod, shapes))
    shrink = payload(shapes, compression) / gradients
    forward, end = (1 - BACKWARD) * compute, compute + extra
    done = size = 0.0
    while size < gradients:
        part = min(bucket if size else 2**20, gradients - size)
        size += part
        ready = forward + (end - forward) * size / gradients
        done = max(done, ready) + start + all_reduce(part * shrink)
    return Step(compute, extra, max(0.0, done - end))
