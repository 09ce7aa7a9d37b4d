"""A profile: what ran, for how long, and what cvperf would make of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from cvperf.bench.roofline import Ceilings
from cvperf.profiler import advisor, gpu, memory, speedups, tables
from cvperf.profiler.combine import combine, median
from cvperf.profiler.layers import Layers
from cvperf.profiler.record import Recording, recorded, unprofiled_us
from cvperf.profiler.target import Target
from cvperf.profiler.trace import Pass


@dataclass
class Profile:
    """What a block or a target did. Filled when it has run; the tables are made when asked for."""

    target: str
    notes: tuple[str, ...] = ()
    passes: int = 0
    """How often it was profiled; the times are medians over these."""
    unprofiled: bool = False
    """Whether the times are scaled to those of unprofiled runs."""
    threads: int = field(default_factory=torch.get_num_threads)
    classes: dict[str, str] = field(default_factory=dict)
    """Layer -> class of its module."""
    chrome_trace: bytes = b""
    """One pass as a Chrome trace, in JSON."""
    ledger: speedups.Speedups | None = None
    """Where the advisor reads ratios; None for the ledger that comes with cvperf."""
    ceilings: Ceilings | None = None
    """This machine's; None for those in the ledger, if it has any."""
    recorded: Pass | None = None

    @property
    def one(self) -> Pass:
        """The pass: its spans, allocations and kernels.

        Raises:
            RuntimeError: the block is still open, or it raised.
        """
        if self.recorded is None:
            raise RuntimeError(
                "the profile is empty: it is filled when its `with cvperf.profile() as p:` block "
                "ends without an error"
            )
        return self.recorded

    @property
    def wall_ms(self) -> float:
        """Milliseconds of a pass: what the shares are of."""
        return sum(span.self_us for span in self.one.spans) / 1e3

    @property
    def device(self) -> str:
        """``"cuda"`` if the pass ran kernels on a GPU, else ``"cpu"``."""
        return "cuda" if self.one.kernels else "cpu"

    @cached_property
    def _grouping(self) -> tables.Grouping:
        return tables.group(self.one)

    @cached_property
    def _ledger(self) -> speedups.Speedups:
        return self.ledger if self.ledger is not None else speedups.load(device=self.device)

    @cached_property
    def _ceilings(self) -> Ceilings | None:
        return self.ceilings if self.ceilings is not None else self._ledger.ceilings

    @cached_property
    def calls(self) -> list[tables.Call]:
        """Op calls by shape, longest first."""
        return tables.call_rows(self.one, self._grouping)

    @cached_property
    def ops(self) -> list[tables.Row]:
        """Time by op, longest first; the shares sum to 1."""
        return tables.op_rows(self.one, self._grouping, self.calls, self._ceilings)

    @cached_property
    def layers(self) -> list[tables.Row]:
        """Time by layer, in the order of first use."""
        return tables.layer_rows(self.one, self._grouping, self.classes)

    @cached_property
    def memory(self) -> list[memory.Curve]:
        """Memory over time: a curve for the CPU, and one for the GPU if it was used."""
        return memory.curves(self.one)

    @cached_property
    def gpu(self) -> gpu.Gpu | None:
        """Occupancy and launch gaps; None where no GPU kernel ran."""
        return gpu.summary(self.one)

    @cached_property
    def advice(self) -> advisor.Advice:
        """What ``cvperf.use`` would serve, what that saves, and the lines to add."""
        return advisor.advise(self.calls, self.wall_ms, self._ledger)

    def roofline_share(self, call: tables.Call) -> float | None:
        """Least time that this machine needs for these calls over the time they took."""
        least = call.roofline_ms(self._ceilings)
        return least / call.ms if least is not None and call.ms else None

    def export(self, folder: str | Path) -> Path:
        """Write index.html, profile.md, profile.json and trace.json.gz; returns the page's path.

        Raises:
            ImportError: jinja2 is needed for the page and not installed.
        """
        from cvperf.profiler import page

        return page.write(self, Path(folder))

    def __str__(self) -> str:
        from cvperf.profiler import sections

        return sections.text(self)


@contextmanager
def profile(name: str = "block", *, ledger: str | Path | None = None) -> Iterator[Profile]:
    """Profile what the block does, on the CPU and on the GPU where there is one.

    Run the model once before the block: the first call of a process also allocates, compiles and
    fills caches. Times are those seen by the profiler, which adds a few microseconds an op;
    ``cvperf profile`` takes that off, because it can run its target unprofiled too.

    Args:
        name: what to call the profile.
        ledger: results of ``cvperf bench kernels`` for the advisor; None for those that come with
            cvperf.

    Example:
        >>> with cvperf.profile() as p:
        ...     model(images)
        >>> print(p)
        >>> p.export("profile")
    """
    result = Profile(name, notes=("one pass, times as the profiler saw them",))
    layers = Layers()
    with recorded(layers) as recording:
        yield result
    _fill(result, [recording], None, layers)
    if ledger is not None:
        result.ledger = speedups.load(Path(ledger), result.device)


def profile_target(target: Target, repeats: int) -> Profile:
    """Profile a target: ``repeats`` passes with the profiler and as many without, in turns.

    A target that may not be run again is profiled once, as it is.
    """
    result = Profile(target.name, notes=target.notes)
    layers = Layers()
    recordings, unprofiled = [], []
    if target.repeatable:
        target.run()
    for _ in range(repeats if target.repeatable else 1):
        if target.repeatable:
            unprofiled.append(unprofiled_us(target.run))
        with recorded(layers) as recording:
            target.run()
        recordings.append(recording)
    _fill(result, recordings, statistics.median(unprofiled) if unprofiled else None, layers)
    return result


def _fill(
    result: Profile, recordings: list[Recording], unprofiled: float | None, layers: Layers
) -> None:
    passes = [recording.one for recording in recordings]
    result.passes, result.unprofiled = len(passes), unprofiled is not None
    result.classes = layers.classes
    result.chrome_trace = recordings[median(passes)].chrome_trace
    result.recorded = combine(passes, unprofiled)
