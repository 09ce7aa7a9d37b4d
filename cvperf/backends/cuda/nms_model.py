"""NMS in CUDA C++: the sizes of its blocks, and how long it should take."""

from __future__ import annotations

from dataclasses import dataclass

from cvperf.backends.gpu.model import LAUNCH_S, Architecture

_COMPARE = 2 / 32
"""Instructions for one comparison of ``nms_ranks``."""
_OVERLAP = 14 / 32
"""Slots of issue for one pair of ``nms_overlaps``: 7 of its 12 instructions are at half rate."""
_SUPPRESS = 18 / 32
"""The same for ``nms_suppress``, which walks from one box to the next."""
_LEFT = 280
"""Kept boxes of other chunks that pruning leaves for each box to be compared with, were chunks
small: counted by a model in NumPy (test_nms.py) on 4,096 to 100,000 uniform boxes."""
_START_S = 1e-6
"""From a block's first instruction to its first number: two trips to memory in a row."""
_SETTLE_S = 1.5e-6
"""A thousand boxes in one block: 32 words a thread from L2, and five rounds."""
_SORT_LAUNCHES = 8
_SOFT_STEP_S = 0.4e-6
"""A step's latency: 20 exchanges of 25 cycles, a barrier, and the winner's corners."""
_SOFT_INSTRUCTIONS = {"linear": 45, "gaussian": 62}
"""For 32 boxes in a step."""


@dataclass(frozen=True)
class Blocks:
    """The sizes that kernels are compiled for. Tests make them small.

    Attributes:
        threads: of a block that compares and settles; a multiple of 64.
        chunk: boxes settled by one launch, a multiple of ``threads``, up to 4096.
        items: boxes whose ranks a block counts; a multiple of 4.
        counting: threads of such a block, a multiple of ``items``.
        counted: boxes up to which ranks are counted; more are sorted.
        placing: threads of a block that lays out sorted boxes.
    """

    threads: int = 1024
    chunk: int = 2048
    items: int = 64
    counting: int = 512
    counted: int = 16384
    placing: int = 256

    def pitch(self, count: int) -> int:
        """Entries of an array by rank."""
        return -(-count // self.threads) * self.threads

    def chunk_of(self, count: int) -> int:
        return min(self.chunk, self.pitch(count))

    def chunks(self, count: int) -> int:
        return -(-count // self.chunk_of(count))

    def tasks(self, count: int) -> int:
        """Pairs of 32 boxes with 32 of their chunk that ``nms_overlaps`` compares."""
        groups = self.chunk_of(count) // 32
        return self.chunks(count) * groups * (groups + 1) // 2

    def overlapping(self, gpu: Architecture, images: int, count: int) -> int:
        """Blocks of an image: all of a launch run at once, each with four tasks or more."""
        return max(1, min(gpu.processors // images, self.tasks(count) // 4))

    def suppressing(self, gpu: Architecture, images: int, count: int) -> tuple[int, int]:
        """Blocks of later boxes, and parts of a chunk's kept ones, so that all processors work."""
        blocks = self.pitch(count) // self.threads
        return blocks, max(1, min(gpu.processors // (blocks * images), self.chunk // 32))


BLOCKS = Blocks()


def predicted_seconds(gpu: Architecture, images: int, count: int) -> float:
    """Seconds of a whole call whose boxes are spread uniformly.

    Each launch costs its latency, and that of a block's first trips to memory; then all processors
    compare at the rate of issue. Settling is one block's work. Up to a chunk of boxes it is two
    launches, and latency is nearly all of it.
    """
    chunks = BLOCKS.chunks(count)
    a_launch = LAUNCH_S + _START_S
    settling = chunks * BLOCKS.chunk_of(count) / 1024 * _SETTLE_S
    return (
        _ordering(gpu, images, count)
        + chunks * a_launch
        + comparing_seconds(gpu, images, count)
        + settling
    )


def comparing_seconds(gpu: Architecture, images: int, count: int) -> float:
    """Seconds to compare the pairs of boxes that must be, on all processors at full rate."""
    chunk = BLOCKS.chunk_of(count)
    within = 1024 * BLOCKS.tasks(count) * _OVERLAP
    across = _LEFT * count * (1 - chunk / max(count, chunk)) * _SUPPRESS
    return images * (within + across) / gpu.rates["issue"]


def _ordering(gpu: Architecture, images: int, count: int) -> float:
    """By score, and if there are more than a chunk by place."""
    orders = 2 if BLOCKS.chunks(count) > 1 else 1
    if count > BLOCKS.counted:
        bytes_moved = images * count * (orders * 5 * 24 + 64)  # five passes over keys and indices
        return (orders * _SORT_LAUNCHES + 3) * LAUNCH_S + bytes_moved / gpu.memory_rate
    comparisons = orders * images * float(count) ** 2
    return LAUNCH_S + _START_S + comparisons * _COMPARE / gpu.rates["issue"]


def predicted_share(gpu: Architecture, images: int, count: int) -> float:
    """Share of the roofline, which is that of comparing pairs."""
    return comparing_seconds(gpu, images, count) / predicted_seconds(gpu, images, count)


def predicted_soft_share(gpu: Architecture, count: int, method: str) -> float:
    """Share of the roofline of ``selected_softly`` where every box is selected.

    The roofline is comparing each selected box with those that are left, on the whole GPU; one
    processor does it all, step by step.
    """
    rate = 32 * gpu.rates["issue"] / _SOFT_INSTRUCTIONS[method]
    a_step = _SOFT_STEP_S + count / (rate / gpu.processors)
    return count * count / 2 / rate / (count * a_step + LAUNCH_S)
