"""One peer on one case, on its way to a row: made, held against the reference, timed."""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass, replace
from typing import Any

import torch

from cvperf.bench import cuda_clock, energy, memory
from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.base import Problem
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.timing import Timing


@dataclass
class Entry:
    """What is known of a peer so far; ``row`` is ``"unsupported"`` until it is checked."""

    peer: Peer
    row: Measurement
    contender: Contender | None = None
    """Only of a peer whose answer is right."""

    def check(self, problem: Problem, expected: Any) -> None:
        """Make the contender and hold its answer against the reference."""
        if (missing := self.peer.missing()) is not None:
            self.row = replace(self.row, status="missing", note=missing)
            return
        self.row = replace(self.row, version=self.peer.version())
        try:
            contender = self.peer.contender(problem)
            with contender.context():
                raw, peak = memory.peak_of(contender.run, self.row.device)
            error = problem.error(expected, contender.answer(raw))
        except Unsupported as reason:
            self.row = replace(self.row, note=str(reason))
            return
        except Exception as failure:  # noqa: BLE001  (whatever a peer raises, the others are measured)
            note = "".join(traceback.format_exception_only(failure)).strip()
            self.row = replace(self.row, status="failed", note=note[:500])
            return
        right = error <= problem.tolerance
        self.row = replace(
            self.row,
            layout=contender.layout or self.row.layout,
            note=contender.note if right else _why_wrong(error, problem.tolerance),
            status="wrong",  # until it has a time
            error=error if math.isfinite(error) else None,  # JSON has no infinity
            peak_bytes=peak,
        )
        self.contender = contender if right else None

    def timed(self, contender: Contender, timing: Timing, ceilings: Ceilings | None) -> None:
        """Fill in a time, and what is measured beside it.

        Args:
            contender: what was timed: ours, or several of its kind in turns.
        """
        row, ceiling = self.row, None
        if ceilings is not None and (row.flop or row.bytes):
            ceiling = ceilings.roofline_ms(row.flop, row.bytes, row.dtype)
        on_gpu = row.device == "cuda"
        joules = energy.counter(row.device)
        wait = torch.cuda.synchronize if on_gpu else lambda: None
        with contender.context():
            self.row = replace(
                row,
                status="ok",
                median_ms=timing.median,
                p20_ms=timing.percentile(20),
                p80_ms=timing.percentile(80),
                n=len(timing.samples_ms),
                samples_ms=[float(f"{sample:.5g}") for sample in timing.samples_ms],
                host_us=cuda_clock.host_us(contender.run) if on_gpu else None,
                roofline_ms=ceiling,
                roofline_share=None if ceiling is None else ceiling / timing.median,
                energy_j=energy.of_call(contender.run, joules, wait) if joules else None,
            )

    def finished(self, problem: Problem) -> Measurement:
        """The row, with what only this kind of problem can add."""
        return replace(self.row, detail=problem.detail(self.row, self.contender))


def _why_wrong(error: float, tolerance: float) -> str:
    if not math.isfinite(error):
        return "the answer has another shape than the reference, or a NaN"
    return f"the error {error:.2g} is beyond the tolerance {tolerance:.2g}"
