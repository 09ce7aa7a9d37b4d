"""What the page and its Markdown twin show, drawn from runs: numbers and plots, no markup."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cvperf.bench.report import plots, regression, summary
from cvperf.bench.report.looks import looks
from cvperf.bench.report.paired import Ratio
from cvperf.bench.report.regression import Change
from cvperf.bench.report.runs import Run
from cvperf.bench.report.summary import Contest, Counts, Group
from cvperf.bench.results import Measurement
from cvperf.page.svg import Plot

if TYPE_CHECKING:
    from cvperf.bench.roofline import Ceilings

_APART = (
    "Each contender had a process of its own, so that none met the waiting threads of another; a "
    "sample is the median of a turn of about 0.3 seconds."
)
_SAME_MACHINE = ("cpu", "gpu", "isa", "threads")


@dataclass(frozen=True)
class Op:
    """One op on one device in one dtype: a section of the page."""

    title: str
    anchor: str
    suite: str
    groups: tuple[Group, ...]
    """One for each variant of ours."""
    plots: tuple[Plot, ...]

    @property
    def contests(self) -> list[Contest]:
        """Every case of every variant, the worst for us first, those without a ratio last."""
        found = [contest for group in self.groups for contest in group.contests]
        return sorted(found, key=lambda c: c.ratio.value if c.ratio else float("inf"))


@dataclass(frozen=True)
class Model:
    """One network or recipe."""

    name: str
    contests: tuple[Contest, ...]

    @property
    def rows(self) -> list[Measurement]:
        """Every row, each once, the fastest of a case first."""
        found = {(c.run, *row.key): row for c in self.contests for row in c.rows}
        return sorted(found.values(), key=lambda r: (r.case, r.dtype, r.median_ms or float("inf")))

    def ratio_to_ours(self, row: Measurement) -> Ratio | None:
        """This peer's time over ours."""
        for contest in self.contests:
            if any(row is each for each in contest.rows) and row is not contest.ours:
                return contest.against(row)
        return None


@dataclass(frozen=True)
class Absence:
    """Rows that have no time for one and the same reason."""

    contender: str
    status: str
    op: str
    note: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """What ``--against`` found."""

    changes: tuple[Change, ...]
    not_repeated: tuple[Measurement, ...]
    warnings: tuple[str, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        names = ("lost", "regression", "improvement", "unclear", "same")
        return {name: sum(1 for c in self.changes if c.verdict == name) for name in names}

    @property
    def beyond_noise(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.failed or c.verdict == "improvement")


@dataclass(frozen=True)
class Content:
    """All of it. The properties are what the templates ask for."""

    runs: tuple[Run, ...]
    sources: tuple[str, ...]
    """The files' names."""
    baseline: Baseline | None

    @cached_property
    def contests(self) -> tuple[Contest, ...]:
        return summary.contests(self.runs)

    @cached_property
    def counts(self) -> Counts:
        return summary.count(self.contests, self.runs)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return summary.groups(self.contests)

    @cached_property
    def losses(self) -> tuple[Contest, ...]:
        return summary.losses(self.contests)

    @cached_property
    def rows(self) -> tuple[Measurement, ...]:
        """Every row of every file."""
        return tuple(row for run in self.runs for row in run.rows)

    @cached_property
    def _run_of(self) -> Mapping[int, str]:
        return {id(row): run.name for run in self.runs for row in run.rows}

    def run_of_row(self, row: Measurement) -> str:
        """The name of the run that a row of these runs belongs to."""
        return self._run_of[id(row)]

    @property
    def date(self) -> str:
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

    @property
    def peer_names(self) -> list[str]:
        """Every peer that any mean is over."""
        return sorted({name for group in self.groups for name in group.against})

    @cached_property
    def ops(self) -> list[Op]:
        """The sections of kernels, with their plots."""
        ours = [row.contender for row in self.rows if row.ours]
        drawn = looks([row.contender for row in self.rows], ours)
        sections: dict[tuple[str, ...], list[Group]] = {}
        for group in self.groups:
            if group.suite == "kernels":
                key = (group.subject, group.dtype, group.device, group.run)
                sections.setdefault(key, []).append(group)
        return [
            Op(
                ", ".join(key[:3]) + (f", run {key[3]}" if key[3] else ""),
                "-".join(part for part in key if part).replace(" ", "-"),
                "kernels",
                tuple(groups),
                tuple(plots.of_op(groups, drawn, self._ceilings(key[3], key[2]))),
            )
            for key, groups in sections.items()
        ]

    def models(self, suite: str) -> list[Model]:
        """The networks of the suite "models" or "training"."""
        found: dict[str, list[Contest]] = {}
        for contest in self.contests:
            if contest.first.suite == suite:
                found.setdefault(contest.first.op, []).append(contest)
        return [Model(name, tuple(contests)) for name, contests in found.items()]

    def apart(self, suite: str) -> str:
        """A sentence on how many rows of a suite come from a process of their own; empty if none
        do."""
        rows = [row for row in self.rows if row.suite == suite and row.n]
        alone = sum("process" in row.detail for row in rows)
        if not alone:
            return ""
        share = "" if alone == len(rows) else f"In {alone} of {len(rows)} rows: "
        return f"{share}{_APART}"

    @property
    def overhead(self) -> list[Contest]:
        return [contest for contest in self.contests if contest.first.suite == "overhead"]

    @property
    def peaks(self) -> list[Measurement]:
        return [row for row in self.rows if row.suite == "peaks"]

    @property
    def bad(self) -> list[Measurement]:
        """Wrong answers and failures, ours first."""
        found = [row for row in self.rows if row.status in ("wrong", "failed")]
        return sorted(found, key=lambda row: not row.ours)

    @cached_property
    def absences(self) -> list[Absence]:
        """Who was not raced and why, one entry for rows that say the same."""
        found: dict[tuple[str, str, str, str], list[str]] = {}
        for row in self.rows:
            if row.status == "missing":  # for the same reason in every op
                found.setdefault((row.contender, row.status, "all", row.note), []).append(row.case)
            elif row.status == "unsupported":
                found.setdefault((row.contender, row.status, row.op, row.note), []).append(row.case)
        return [Absence(*key, tuple(cases)) for key, cases in sorted(found.items())]

    def _ceilings(self, run: str, device: str) -> Ceilings | None:
        """The ceilings of a run, else those of the only run on this device that has any."""
        from cvperf.bench.roofline import Ceilings

        by_run = {each.name: _peaks(each.rows, device) for each in self.runs}
        rows = by_run[run]
        if not rows and len(others := [rows for rows in by_run.values() if rows]) == 1:
            rows = others[0]
        return Ceilings.from_rows(rows, device) if rows else None


def against(runs: Iterable[Run], baseline: Sequence[Run]) -> Baseline:
    """Every run held against the run of the baseline that shares most rows with it.

    Raises:
        ValueError: no row of ours is in both.
    """
    changes: list[Change] = []
    gone: list[Measurement] = []
    warnings: list[str] = []
    for run in runs:
        keys = {row.key for row in run.rows if row.ours}
        past = max(baseline, key=lambda each: len(keys & {row.key for row in each.rows}))
        if not keys & {row.key for row in past.rows}:
            continue
        changes += regression.compare(run.rows, past.rows)
        gone += regression.not_repeated(run.rows, past.rows)
        now, then = run.environment, past.environment
        warnings += [
            f"{name} differs: the baseline has {then.get(name, 'none')}, these results "
            f"{now.get(name, 'none')}; a change may be the machine's"
            for name in _SAME_MACHINE
            if now.get(name) != then.get(name)
        ]
    if not changes:
        raise ValueError(
            "the baseline and the results share no row that cvperf timed: measure both with the "
            "same suite, --op and --case, on the same device"
        )
    return Baseline(tuple(sorted(changes, key=regression.order)), tuple(gone), tuple(warnings))


def _peaks(rows: Iterable[Measurement], device: str) -> list[Measurement]:
    return [row for row in rows if row.suite == "peaks" and row.device == device]
