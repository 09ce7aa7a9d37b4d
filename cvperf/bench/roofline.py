"""How fast a call could be at most on this machine: the roofline of its measured ceilings.

The model is Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance
model for multicore architectures": a call takes at least its operations over the rate of the
arithmetic units, and at least its bytes over the bandwidth of where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cvperf.bench.results import Measurement

OPERATIONS, BYTES = "flop/s", "bytes/s"
"""What ``detail["unit"]`` of a row of the suite "peaks" says its rate is of."""


@dataclass(frozen=True)
class Level:
    """A cache, or the memory, seen by all threads together."""

    name: str
    """``"L2"``, ``"L3"`` or ``"memory"``."""
    capacity: int
    """Bytes that it holds; for a cache of which each core has its own, the sum of those in use."""
    rate: float
    """Bytes a second of a copy: those read and those written."""


@dataclass(frozen=True)
class Ceilings:
    """What a machine was measured to do at most, with a number of threads."""

    device: str
    """``"cpu"`` or ``"cuda"``."""
    threads: int
    """CPU threads; 0 on a GPU."""
    flops: Mapping[str, float]
    """Operations a second by dtype, a multiply-add counted as two."""
    levels: tuple[Level, ...]
    """Smallest first; the last is the memory."""
    notes: tuple[str, ...] = ()
    """How each was measured."""

    @classmethod
    def from_rows(cls, rows: Iterable[Measurement], device: str | None = None) -> Ceilings:
        """The ceilings that rows of the suite "peaks" hold; other rows are passed over.

        Of two rows that measure the same thing the later one counts.

        Args:
            device: ``"cpu"`` or ``"cuda"``; None where the rows are of one device.

        Raises:
            ValueError: there are no such rows, or they are of several devices or thread counts,
                or a rate is missing.
        """
        rows = [row for row in rows if row.suite == "peaks" and row.status == "ok"]
        rows = [row for row in rows if device in (None, row.device)]
        kinds = sorted({(row.device, int(row.shape.get("threads", 0))) for row in rows})
        if len(kinds) != 1:
            found = ", ".join(f"{name} with {threads} threads" for name, threads in kinds)
            raise ValueError(
                f"rows must hold the measured ceilings of one device and thread count, got those "
                f"of {found or 'none'}. `cvperf bench peaks` measures them"
            )
        rates = [row for row in rows if row.detail["unit"] == OPERATIONS]
        copies = {row.op: row for row in rows if row.detail["unit"] == BYTES}
        if not rates or not copies:
            raise ValueError(
                "rows must hold at least one arithmetic rate and one bandwidth, got "
                f"{', '.join(row.op for row in rows)}. `cvperf bench peaks` measures all of them"
            )
        levels = [
            Level(row.detail["level"], row.detail["capacity"], row.detail["rate"])
            for row in copies.values()
        ]
        return cls(
            *kinds[0],
            flops={row.dtype: row.detail["rate"] for row in rates},
            levels=tuple(sorted(levels, key=lambda level: level.capacity)),
            notes=tuple({row.op: f"{row.op}: {row.note}" for row in rows if row.note}.values()),
        )

    def roofline_ms(self, flop: int, bytes: int, dtype: str) -> float | None:
        """Milliseconds that a call takes at least; None where that is not known.

        It is not known for a call whose work was not counted (no flop and no bytes), and for one
        that computes in a dtype whose rate was not measured.

        Args:
            flop: operations, a multiply-add counted as two; 0 where they are not known.
            bytes: every input read once and every output written once.
            dtype: of the products: "float32", "bfloat16", "int8", ...; on a GPU also "tf32".
        """
        if flop <= 0 and bytes <= 0:
            return None
        if flop > 0 and dtype not in self.flops:
            return None
        arithmetic_s = flop / self.flops[dtype] if flop > 0 else 0.0
        return max(arithmetic_s, bytes / self.level(bytes).rate) * 1e3

    def rate(self, dtype: str) -> float:
        """Operations a second.

        Raises:
            ValueError: ``dtype`` has no measured rate.
        """
        if dtype not in self.flops:
            raise ValueError(
                f"dtype must be one with a measured rate on {self.device}: "
                f"{', '.join(self.flops)}; got {dtype!r}. `cvperf bench peaks` measures them"
            )
        return self.flops[dtype]

    def level(self, bytes: int) -> Level:
        """Where the bytes of a call lie when it is timed.

        On a CPU a call is repeated on the same tensors, as a layer that follows another finds its
        input: they lie in the smallest level that holds them all. Held against the memory's
        bandwidth, such a call would beat its own roofline. On a GPU the harness rotates
        buffers, so that every call reads from the memory.
        """
        if self.device == "cuda":
            return self.levels[-1]
        fits = (level for level in self.levels if bytes <= level.capacity)
        return next(fits, self.levels[-1])

    def balance(self, dtype: str) -> float:
        """Operations a byte at which arithmetic and memory take equally long.

        A call from memory with fewer is limited by the memory, one with more by the arithmetic.
        """
        return self.rate(dtype) / self.levels[-1].rate
