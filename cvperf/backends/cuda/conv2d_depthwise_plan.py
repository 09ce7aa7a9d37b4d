"""How threads share a depthwise convolution, and how long it should take.

No tensor core multiplies it: the model counts instructions beside bytes. Sizes of blocks are
arguments of the kernels, so that every channel count fills its blocks; nothing is tuned.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from cvperf.backends.gpu.conv2d_depthwise_model import Gather, footprint, least_seconds
from cvperf.backends.gpu.conv2d_layer import Layer, vector_of
from cvperf.backends.gpu.model import LAUNCH_S, Architecture, Tiles, seconds

_THREADS, _WEIGHT_GRAD_THREADS = 128, 256
_LANES = 16
"""Vectors of channels that lie side by side in a block, at most: 256 bytes."""
_RESIDENT = 384
"""Threads that a processor holds of these kernels, by their registers."""

# Instructions: of a vector's load with its address and test; before and after the sums.
_LOAD, _START, _END = 10, 120, 12
_UNPACK = {2: 1, 1: 1}  # bytes of a number -> to unpack it
_EFFICIENCY = 0.8  # of the rate of issue
_PART_S = 0.1e-6  # to add one part to those before it, by few programs: the latency of L2


def strip_of(itemsize: int, vector: int) -> int:
    """Neighbours that a thread computes: ``STRIP`` of kernels/cuda/conv2d_depthwise.cu."""
    return 2 if itemsize == 1 and vector == 16 else 4


def fast_kernel(layer: Layer, turned: bool) -> int:
    """Taps of a side, where the kernel is compiled for them; else 0."""
    side = layer.kernel[0]
    square = layer.kernel == (side, side) and side in (3, 5)
    steps = layer.stride in ((1, 1), (2, 2)) and layer.dilation == (1, 1)
    if not (square and steps and layer.filters == 1):
        return 0
    centred = layer.stride == (2, 2) and layer.padding == (side // 2, side // 2)
    return side if centred or not turned else 0


def _shared_out(size: int, most: int) -> int:
    """Of blocks of at most so many, the size of each when all have as many."""
    return math.ceil(size / math.ceil(size / max(1, min(size, most)))) if size else 1


@dataclass(frozen=True)
class Tiling:
    """A block: ``lanes`` vectors of channels x ``strips`` of a row x ``lines``."""

    vector: int
    lanes: int
    strips: int
    lines: int
    blocks: int

    @property
    def threads(self) -> int:
        """Of a block, whole warps."""
        return 32 * math.ceil(self.lanes * self.strips * self.lines / 32)

    @classmethod
    def of(cls, machine: Architecture, gather: Gather) -> Tiling:
        """For what is written; small problems get small blocks, so that all processors work."""
        return _tiling(machine.processors, gather)


@functools.lru_cache(maxsize=4096)
def _tiling(processors: int, gather: Gather) -> Tiling:
    layer = gather.layer
    height, width = layer.out_height, layer.out_width
    if gather.turned:
        height, width = layer.height, layer.width
    vector = 1 if layer.filters > 1 else vector_of(gather.channels, gather.itemsize)
    vectors = gather.channels // vector
    across = math.ceil(width / strip_of(gather.itemsize, vector))
    work = layer.images * height * across * vectors
    threads = next((one for one in (_THREADS, 64) if work >= 2 * one * processors), 32)
    lanes = _shared_out(vectors, _LANES)
    rest = threads // lanes
    strips = _shared_out(across, math.isqrt(max(rest // 4, 1)))  # about a square of pixels
    lines = _shared_out(height, rest // strips)
    blocks = math.ceil(across / strips) * math.ceil(height / lines) if work else 0
    blocks *= layer.images * math.ceil(vectors / lanes)
    return Tiling(vector, lanes, strips, lines, blocks)


def predicted(machine: Architecture, gather: Gather) -> float:
    """Seconds, with the copy that puts the taps of a float weight first."""
    layer, size = gather.layer, gather.itemsize
    tiling = Tiling.of(machine, gather)
    fast = fast_kernel(layer, gather.turned and layer.stride != (1, 1))
    strip, vector = strip_of(size, tiling.vector), tiling.vector
    stride = layer.stride[1] if not gather.turned else 1
    exist = 1 / layer.classes if gather.turned else 1.0  # taps between strides
    reads = layer.taps * (layer.filters if gather.turned else 1) * exist
    pixels = reads * strip
    if fast:
        pixels = layer.kernel[0] * ((strip - 1) * stride + layer.kernel[1]) * exist
    numbers = vector * _UNPACK[size] + _LOAD
    instructions = _START + strip * (vector * (reads + _END)) + (pixels + reads) * numbers
    count = tiling.blocks
    lines, across = tiling.lines, tiling.strips * strip
    read = footprint(layer, lines * across, layer.kernel[0], gather.turned)
    tile_bytes = tiling.lanes * vector * (read * size + lines * across * gather.written_bytes)
    tiles = Tiles(
        count=count,
        operations=instructions * tiling.threads / 32,
        kind="issue",
        l2_bytes=tile_bytes,
        memory_bytes=gather.memory_bytes,
        blocks=max(1, _RESIDENT // tiling.threads),
        efficiency=_EFFICIENCY,
        l1_bytes=tiling.threads * vector * size * (pixels + reads),
    )
    return seconds(machine, tiles, launches=1 if size == 1 else 2)


def predicted_share(machine: Architecture, gather: Gather) -> float:
    """Share of the roofline that it should reach, by the model."""
    return least_seconds(machine, gather.layer, gather.memory_bytes) / predicted(machine, gather)


# --- the gradient of the weight -------------------------------------------------------------------


@dataclass(frozen=True)
class WeightGradTiling:
    """A block: ``lanes`` vectors of filters x ``rows`` of taps x workers who share the pixels."""

    vector: int
    lanes: int
    rows: int
    workers: int
    blocks: int
    parts: int

    @property
    def threads(self) -> int:
        """Of a block, whole warps."""
        return 32 * math.ceil(self.lanes * self.rows * self.workers / 32)

    @classmethod
    def of(cls, machine: Architecture, layer: Layer) -> WeightGradTiling:
        """Parts for all processors, but strips for every worker."""
        filters = layer.filters * layer.groups
        vector = 1 if layer.filters > 1 else vector_of(filters, 2)
        taps = fast_kernel(layer, turned=False) or layer.taps
        lanes = _shared_out(filters // vector, 8)
        rows = _shared_out(taps, _WEIGHT_GRAD_THREADS // lanes)
        workers = max(1, _WEIGHT_GRAD_THREADS // (lanes * rows))
        blocks = math.ceil(filters // vector / lanes) * math.ceil(taps / rows)
        strips = layer.images * layer.out_height * math.ceil(layer.out_width / 4)
        parts = min(strips // (4 * workers), 2 * machine.processors // blocks)
        return cls(vector, lanes, rows, workers, blocks, max(1, parts))


def weight_grad_predicted(machine: Architecture, layer: Layer, itemsize: int) -> float:
    """Seconds of the parts, and of adding them."""
    tiling, fast = WeightGradTiling.of(machine, layer), fast_kernel(layer, turned=False)
    filters = layer.filters * layer.groups
    strips = layer.images * layer.out_height * math.ceil(layer.out_width / 4)
    each = math.ceil(strips / (tiling.parts * tiling.workers))
    columns = fast or 1
    loads = 4 + (3 * layer.stride[1] + columns if fast else 4)
    strip = loads * (tiling.vector * _UNPACK[itemsize] + _LOAD) + 4 * columns * tiling.vector
    sums = 4 * layer.taps * filters
    count = tiling.blocks * tiling.parts
    tiles = Tiles(
        count=count,
        operations=(each * strip + _START) * tiling.threads / 32,
        kind="issue",
        l2_bytes=layer.numbers * itemsize * layer.kernel[0] / count,
        memory_bytes=layer.numbers * itemsize + tiling.parts * sums,
        blocks=2,
        efficiency=_EFFICIENCY,
        l1_bytes=each * tiling.threads * loads * tiling.vector * itemsize,
    )
    added = tiling.parts * _PART_S + (tiling.parts + 1) * sums / machine.memory_rate
    return seconds(machine, tiles) + added + LAUNCH_S


def weight_grad_predicted_share(machine: Architecture, layer: Layer, itemsize: int) -> float:
    """Share of the roofline that it should reach, by the model."""
    least = least_seconds(machine, layer, layer.numbers * itemsize)
    return least / weight_grad_predicted(machine, layer, itemsize)
