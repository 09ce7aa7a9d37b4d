"""NMS in CUDA C++: the sizes of its blocks, and how long it should take."""

from __future__ import annotations

from dataclasses import dataclass

from cvperf.backends.gpu.model import Architecture


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
