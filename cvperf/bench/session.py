"""One ``cvperf bench``: the ceilings, then every case of the suites, written as they come."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cvperf.bench import machine, peaks, results
from cvperf.bench.peers import Peer
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import Ceilings
from cvperf.bench.runner import Run, apart_by_default, plan, race

Tick = Callable[[str], None]


def run(
    suites: Mapping[str, Sequence[Shape]],
    peers: Sequence[Peer],
    out: Path,
    *,
    device: str = "cpu",
    seconds: float | None = None,
    limit_s: float = math.inf,
    one_process: bool = False,
    console: Console | None = None,
) -> list[Measurement]:
    """Measure every case of every suite, write the rows to ``out`` and return them.

    Args:
        suites: suite -> its cases; the ceilings are measured whatever there is.
        peers: the contenders, ourselves among them.
        out: JSON Lines; it appears whole when all is measured (until then ``<out>.partial``).
        seconds: time of a contender on a case; None: the suite's own (see ``runner.plan``).
        limit_s: begin no case after so many seconds; those left out are counted in a last line.
        one_process: never give contenders a process each, as networks have on a CPU.
        console: where the progress bar goes; standard error if None.
    """
    console = console or Console(stderr=True)
    start, left_out = time.monotonic(), 0
    environment = machine.record(device)
    rows: list[Measurement] = []
    with results.writer(out) as file, _bar(suites, console) as (tick, advance):
        tick("ceilings of this machine")
        command = f"cvperf bench peaks --device {device}"
        for row in peaks.measure(device, environment=environment, command=command):
            rows.append(row)
            file.write(row)
        ceilings = Ceilings.from_rows(rows)
        advance()
        for suite, shapes in suites.items():
            apart = apart_by_default(suite, device) and not one_process
            shared = Run(
                suite,
                device,
                plan(suite, seconds, apart),
                environment,
                ceilings,
                seconds,
                apart,
                tick=tick,
            )
            for shape in shapes:
                if time.monotonic() - start > limit_s:
                    left_out += 1
                    continue
                raced = [peer for peer in peers if peer.joins(shape)]
                for row in race(shape, raced, shared):
                    rows.append(row)
                    file.write(row)
                advance()
    if left_out:
        console.print(f"{left_out} cases were left out after {limit_s:.0f} seconds")
    return rows


@contextmanager
def _bar(
    suites: Mapping[str, Sequence[Shape]], console: Console
) -> Iterator[tuple[Tick, Callable[[], None]]]:
    """A progress bar over all cases; gives (say what is done now, one more is done)."""
    columns = (
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=1 + sum(len(shapes) for shapes in suites.values()))
        yield (
            lambda about: progress.update(bar, description=about),
            lambda: progress.advance(bar),
        )
