"""What ``cvperf bench`` prints at its end: ratios, losses, and who was not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cvperf.bench.report.runs import Run
from cvperf.bench.report.summary import Group, contests, groups, losses
from cvperf.bench.results import Measurement

_SHOWN = 10


def show(rows: Sequence[Measurement], out: Path, console: Console | None = None) -> None:
    """Print the summary of a run whose rows are in ``out``."""
    console = console or Console()
    raced = contests([Run(out.stem, tuple(rows))])
    if ceilings := [row for row in rows if row.suite == "peaks"]:
        console.print(_ceilings(ceilings))
    if raced:
        console.print(_ratios(groups(raced)))
    worst = losses(raced)
    for contest in worst[:_SHOWN]:
        assert contest.ratio is not None
        assert contest.best is not None
        name = f"{contest.first.op} {contest.first.case}"
        console.print(f"slower: {name}: {contest.ratio.value:.2f} of {contest.best.contender}")
    if len(worst) > _SHOWN:
        console.print(f"slower: {len(worst) - _SHOWN} more")
    for line in dict.fromkeys(_absences(rows)):
        console.print(line, markup=False, soft_wrap=True)
    command = f"cvperf report {out} -o report/bench"
    console.print(f"{len(rows)} rows in {out}; a page of them: {command}", soft_wrap=True)


def _ratios(all_groups: Sequence[Group]) -> Table:
    table = Table(
        *("suite", "op", "dtype", "cases", "best peer / ours", "worst", "worst case"),
        title="above 1 we are faster than the best peer of each case",
    )
    for group in all_groups:
        if group.mean is None or group.worst is None or group.worst.ratio is None:
            continue
        where = f"{group.worst.first.case} ({group.worst.best.contender})"  # type: ignore[union-attr]
        subject = group.contender if group.suite == "overhead" else group.subject
        figures = f"{group.mean:.2f}", f"{group.worst.ratio.value:.2f}"
        table.add_row(
            group.suite, subject, group.dtype, str(len(group.judged)), *figures, where
        )  # fmt: skip
    return table


def _ceilings(rows: Sequence[Measurement]) -> Table:
    table = Table("ceiling", "rate", "how", title="what this machine can do at most")
    for row in rows:
        rate = f"{row.detail['rate'] / 1e9:,.1f} G{row.detail['unit']}"
        table.add_row(row.op, rate, row.note)
    return table


def _absences(rows: Sequence[Measurement]) -> list[str]:
    missing = [f"{r.contender}: {r.note}" for r in rows if r.status == "missing"]
    bad = [
        f"{r.status}: {r.contender} on {r.op} {r.case}: {r.note}"
        for r in rows
        if r.status in ("wrong", "failed")
    ]
    return missing + bad
