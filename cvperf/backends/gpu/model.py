"""How long a kernel should take: an architecture's ceilings, and the GEMM's form of the model.

Configurations are ranked by it before any hardware sees them. It counts what a tile moves and
multiplies, and how many waves of tiles the processors need; it knows nothing of latencies, so it
is a lower bound that orders candidates, not a forecast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, eq=False)
class Architecture:
    """A GPU's limits and ceilings.

    Attributes:
        name: as docs/gpu.md calls it.
        capability: 80 for sm_80.
        processors: streaming multiprocessors.
        shared_bytes: shared memory that one block may have.
        memory_rate: bytes a second of a copy, counting reads and writes.
        l2_rate: bytes a second out of the L2 cache, all processors together.
        l1_rate: bytes a second out of their L1 caches, all together.
        rates: kind of multiplication -> operations a second (a multiply-add is two); and "issue":
            instructions a second of all warps.
    """

    name: str
    capability: int
    processors: int
    shared_bytes: int
    memory_rate: float
    l2_rate: float
    l1_rate: float
    rates: Mapping[str, float]


# Measured on an H100: copy 3.0 TB/s, bfloat16 798 TFLOP/s, which is 81 % of the data sheet. The
# others are 81 % of their data sheets. L2 is an estimate: 8-bit matrix products with tiles of
# 128 x 256 and no multicast are reported at 1.1 to 1.2 Pop/s on an H100, which draws 7 TB/s; the
# others are scaled by processors and clock. In a clock a processor reads 128 bytes from L1 and
# issues four instructions: 81 % of both here too. docs/gpu.md shows what has been measured since.
A100 = Architecture(
    "sm_80 (A100)", 80, 108, 163 * 1024, 1.6e12, 4.6e12, 15.8e12,
    {"int8": 505e12, "half": 253e12, "tf32": 126e12, "float32": 16e12, "issue": 490e9},
)  # fmt: skip
H100 = Architecture(
    "sm_90 (H100, H200)", 90, 132, 227 * 1024, 3.0e12, 7.0e12, 24e12,
    {"int8": 1596e12, "half": 798e12, "tf32": 399e12, "float32": 54e12, "issue": 844e9},
)  # fmt: skip
B200 = Architecture(
    "sm_100 (B200)", 100, 148, 227 * 1024, 6.5e12, 8.5e12, 28e12,
    {"int8": 3645e12, "half": 1822e12, "tf32": 911e12, "float32": 61e12, "issue": 953e9},
)  # fmt: skip
ARCHITECTURES = {one.capability: one for one in (A100, H100, B200)}

LAUNCH_S = 3e-6
"""From one kernel's end to the next one's first instruction."""


def architecture(capability: int, processors: int, shared_bytes: int) -> Architecture:
    """A GPU that is at hand: the nearest known one below it, with its own size."""
    known = max((one for one in ARCHITECTURES if one <= capability), default=80)
    near = ARCHITECTURES[known]
    share = processors / near.processors
    return replace(
        near,
        capability=capability,
        processors=processors,
        shared_bytes=shared_bytes,
        l1_rate=near.l1_rate * share,
        rates={kind: rate * share for kind, rate in near.rates.items()},
    )


def family(capability: int) -> int:
    """The capability whose shipped configurations a GPU starts from: 80, 90 or 100."""
    return max((one for one in ARCHITECTURES if one <= capability), default=80)


def roofline(machine: Architecture, operations: float, kind: str, memory_bytes: float) -> float:
    """The least seconds: the larger of arithmetic at its rate and memory at its rate."""
    return max(operations / machine.rates[kind], memory_bytes / machine.memory_rate)


@dataclass(frozen=True)
class Tiles:
    """A kernel that computes tiles of its output, each by one block.

    Attributes:
        count: tiles, over all splits of a sum.
        operations: of one tile, padding included.
        kind: of multiplication, a key of ``Architecture.rates``.
        l2_bytes: that one tile reads and writes.
        memory_bytes: that all tiles together must move at least once.
        blocks: that fit one processor at a time.
        efficiency: share of the arithmetic rate that a tile of this size can reach.
        l1_bytes: that one tile reads past L1; 0 where they are too few to matter.
    """

    count: int
    operations: float
    kind: str
    l2_bytes: float
    memory_bytes: float
    blocks: int = 1
    efficiency: float = 1.0
    l1_bytes: float = 0.0


def seconds(machine: Architecture, tiles: Tiles, launches: int = 1) -> float:
    """Predicted seconds: whole waves of tiles at the slowest of arithmetic, caches and memory."""
    if tiles.count == 0:
        return launches * LAUNCH_S
    slots = machine.processors * tiles.blocks
    waves = math.ceil(tiles.count / slots)
    occupied = tiles.count / (waves * slots)  # the last wave leaves processors idle
    work = tiles.count * tiles.operations / (machine.rates[tiles.kind] * tiles.efficiency)
    l1 = tiles.count * tiles.l1_bytes / machine.l1_rate
    l2 = tiles.count * tiles.l2_bytes / machine.l2_rate
    memory = tiles.memory_bytes / machine.memory_rate
    # Few tiles cannot draw the whole bandwidth: half of the processors can.
    reach = min(1.0, 2 * tiles.count / machine.processors)
    slowest = max(max(work, l1) / occupied, l2 / max(occupied, 0.5), memory / reach)
    return slowest + launches * LAUNCH_S


def streamed_share(machine: Architecture, memory_bytes: float) -> float:
    """Predicted share of the bandwidth of a pass that reads and writes each byte once."""
    count = math.ceil(memory_bytes / 16384)  # tiles of 4,096 elements, 4 bytes in and out
    tiles = Tiles(count, 0.0, "float32", memory_bytes / count, memory_bytes, blocks=8)
    return roofline(machine, 0.0, "float32", memory_bytes) / seconds(machine, tiles)
