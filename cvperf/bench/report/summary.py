"""The report's numbers: who won each case, geometric means, worst shapes, losses."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cvperf.bench.report.paired import Ratio, geometric_mean, ratio
from cvperf.bench.report.runs import Run
from cvperf.bench.results import Measurement

RACED = ("kernels", "models", "training", "overhead")
"""Suites in which contenders race; the others only measure the machine."""


@dataclass(frozen=True)
class Contest:
    """One case with one row of ours, or with none where only peers were measured."""

    run: str
    rows: tuple[Measurement, ...]
    """Every contender of the case, in the file's order."""
    ours: Measurement | None

    @cached_property
    def peers(self) -> tuple[Measurement, ...]:
        """The peers that have a time, the fastest first."""
        timed = (row for row in self.rows if not row.ours and row.status == "ok")
        return tuple(sorted(timed, key=lambda row: row.time_ms))

    @property
    def best(self) -> Measurement | None:
        """The fastest peer by its median, or None where no peer has a time."""
        return self.peers[0] if self.peers else None

    @cached_property
    def ratio(self) -> Ratio | None:
        """The best peer's time over ours, or None where one of them has no time."""
        return None if self.best is None else self.against(self.best)

    def against(self, peer: Measurement) -> Ratio | None:
        """A peer's time over ours, or None where one of them has no time."""
        if self.ours is None or self.ours.status != "ok" or peer.status != "ok":
            return None
        if self.ours.samples_ms and peer.samples_ms:
            return ratio(peer.samples_ms, self.ours.samples_ms)
        return Ratio(peer.time_ms / self.ours.time_ms, None, None, 0)

    @property
    def verdict(self) -> str:
        """``faster``, ``slower``, ``even`` or ``undecided``; else why: our status, ``unopposed``
        (no peer has a time) or ``absent`` (cvperf was not measured)."""
        if self.ours is None:
            return "absent"
        if self.ours.status != "ok":
            return self.ours.status
        return self.ratio.verdict if self.ratio else "unopposed"

    @property
    def first(self) -> Measurement:
        """A row that speaks for the case: ours where there is one."""
        return self.ours or self.rows[0]


@dataclass(frozen=True)
class Group:
    """The contests that one mean may be taken over: one op, device, dtype and variant of ours."""

    run: str
    suite: str
    subject: str
    """The op; ``"all"`` where the suite's ops are models."""
    device: str
    dtype: str
    contender: str
    """Ours: ``"cvperf"`` or a variant of it; empty where cvperf was not measured."""
    contests: tuple[Contest, ...]

    @cached_property
    def judged(self) -> tuple[Contest, ...]:
        """Those with a ratio, the worst for us first."""
        return tuple(sorted((c for c in self.contests if c.ratio), key=_ratio))

    @property
    def verdicts(self) -> Mapping[str, int]:
        return Counter(contest.verdict for contest in self.contests)

    @property
    def mean(self) -> float | None:
        """Geometric mean of the ratios against each case's best peer."""
        return geometric_mean([_ratio(contest) for contest in self.judged]) if self.judged else None

    @property
    def worst(self) -> Contest | None:
        return self.judged[0] if self.judged else None

    @property
    def roofline_share(self) -> float | None:
        """Median over the cases where our share is known."""
        rows = (contest.ours for contest in self.contests)
        shares = [row.roofline_share for row in rows if row and row.roofline_share is not None]
        return statistics.median(shares) if shares else None

    @cached_property
    def against(self) -> Mapping[str, tuple[float, int]]:
        """Peer -> (geometric mean of its time over ours, number of cases it is over)."""
        ratios: dict[str, list[float]] = {}
        for contest in self.contests:
            for peer in contest.peers:
                if (found := contest.against(peer)) is not None:
                    ratios.setdefault(peer.contender, []).append(found.value)
        return {name: (geometric_mean(r), len(r)) for name, r in sorted(ratios.items())}


def contests(runs: Iterable[Run]) -> tuple[Contest, ...]:
    """Every case of the suites that race, once for each row of ours."""
    found: list[Contest] = []
    for run in runs:
        races: dict[tuple[str, ...], list[Measurement]] = {}
        for row in run.rows:
            if row.suite in RACED:
                races.setdefault(row.race, []).append(row)
        for rows in races.values():
            ours: list[Measurement | None] = [row for row in rows if row.ours]
            found.extend(Contest(run.name, tuple(rows), mine) for mine in ours or [None])
    return tuple(found)


def groups(all_contests: Iterable[Contest]) -> tuple[Group, ...]:
    """The contests grouped so that apples are not averaged with pears, in the files' order."""
    found: dict[tuple[str, str, str, str, str, str], list[Contest]] = {}
    for contest in all_contests:
        row = contest.first
        subject = row.op if row.suite == "kernels" else "all"
        ours = contest.ours.contender if contest.ours else ""
        key = (contest.run, row.suite, subject, row.device, row.dtype, ours)
        found.setdefault(key, []).append(contest)
    return tuple(Group(*key, tuple(members)) for key, members in found.items())


def losses(all_contests: Iterable[Contest]) -> tuple[Contest, ...]:
    """Where a peer is faster, surely or for all one knows (undecided), the worst first."""
    found = [c for c in all_contests if c.verdict in ("slower", "undecided") and _ratio(c) < 1]
    return tuple(sorted(found, key=_ratio))


@dataclass(frozen=True)
class Counts:
    """The figures at the top of the page."""

    cases: int
    faster: int
    even: int
    slower: int
    undecided: int
    """Too few rounds for an interval, and the samples overlap."""
    unopposed: int
    absent: int
    without_time: int
    """Our rows that are wrong, failed or unsupported."""
    wrong: int
    """Rows of any contender whose answer was beyond the tolerance."""
    failed: int
    rows: int


def count(all_contests: Sequence[Contest], runs: Iterable[Run]) -> Counts:
    """Counts over contests (a case with two variants of ours counts twice) and over all rows."""
    verdicts = Counter(contest.verdict for contest in all_contests)
    rows = [row for run in runs for row in run.rows]
    statuses = Counter(row.status for row in rows)
    names = ("faster", "even", "slower", "undecided", "unopposed", "absent")
    named = {name: verdicts[name] for name in names}
    return Counts(
        cases=len(all_contests),
        **named,
        without_time=len(all_contests) - sum(named.values()),
        wrong=statuses["wrong"],
        failed=statuses["failed"],
        rows=len(rows),
    )


def _ratio(contest: Contest) -> float:
    assert contest.ratio is not None
    return contest.ratio.value
