"""What became slower than in a baseline, beyond the noise of both runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvperf.bench.report.paired import FEWEST_ROUNDS, Floats, draws
from cvperf.bench.results import Measurement

CONFIDENCE = 0.99
"""High, because a report compares hundreds of cases and each of them may cry wolf."""
MARGIN = 0.03
"""A change this small is let pass even where it is certain: two processes that run the same code
differ by this much through where their memory happens to lie."""
ABSOLUTE_MARGIN = 0.10
"""The margin where no peer tells a slower machine from slower code."""
DISTURBED = 1.25
"""The spread of a run's rounds (80th over 20th percentile) from which on it decides nothing.
Noise of 4 % in every contender spreads them by 1.2 at most; another process on the same cores by
2 and more, and it stalls one library's threads and spares another's."""

_CLIP = 2.0


@dataclass(frozen=True)
class Change:
    """One row of ours now, and in the baseline."""

    row: Measurement
    before: Measurement
    verdict: str
    """``regression``, ``improvement``; ``same``: surely within the margin; ``unclear``: the
    interval reaches over the margin; ``lost``: it had a time and has none now."""
    factor: float | None = None
    """Our time now over our time then, as seen by the peers: above 1 it is slower."""
    low: float | None = None
    high: float | None = None
    yardstick: tuple[str, ...] = ()
    """The peers it is measured by; empty where the change is of absolute times."""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether ``--fail-on-regression`` fails for it."""
        return self.verdict in ("regression", "lost")

    def __str__(self) -> str:
        """One line for a terminal."""
        row = self.row
        line = f"{row.op} {row.case} ({row.contender}, {row.dtype}, {row.device}): {self.verdict}"
        if self.factor is not None:
            line += f", {self.factor:.2f} of the time then"
        if self.low is not None and self.high is not None:
            line += f" ({self.low:.2f} to {self.high:.2f})"
        if self.yardstick:
            line += f", seen by {', '.join(self.yardstick)}"
        return line + (f"; {self.note}" if self.note else "")


def compare(current: Iterable[Measurement], baseline: Iterable[Measurement]) -> list[Change]:
    """The change of every row of ours that had a time in the baseline, the slowest first.

    What is compared is not our time but log(our time / the peers' time) of each round. A peer
    that is in both runs, in the same version, did the same work in the same rounds: what a busy
    machine does to it, it does to us, and the ratio is free of it. The median of such peers is the
    yardstick, so that one noisy peer does not spoil it. Where there is no such peer the times
    themselves are compared, which is said, and the margin is wider. A run whose rounds spread too
    widely decides nothing: it has to be measured again on a machine that is left alone.

    A spike in a round is cut to two standard deviations (by the median deviation) before rounds
    are averaged: this keeps nearly all the precision of a mean, which a median gives away. The
    interval comes from resampling the rounds of both runs.
    """
    then = {row.key: row for row in baseline}
    races: dict[tuple[str, ...], dict[str, Measurement]] = {}
    for row in then.values():
        races.setdefault(row.race, {})[row.contender] = row
    now: dict[tuple[str, ...], list[Measurement]] = {}
    for row in current:
        now.setdefault(row.race, []).append(row)
    changes = []
    for race, rows in now.items():
        for row in rows:
            before = then.get(row.key)
            raced = row.ours and row.suite != "peaks"  # the ceilings are the machine's, not ours
            if raced and before is not None and before.status == "ok":
                changes.append(_change(row, before, rows, races[race]))
    return sorted(changes, key=order)


def not_repeated(
    current: Iterable[Measurement], baseline: Iterable[Measurement]
) -> list[Measurement]:
    """Rows of ours that the baseline timed and the current run does not have."""
    now = {row.key for row in current}
    timed = (row for row in baseline if row.ours and row.status == "ok" and row.suite != "peaks")
    return [row for row in timed if row.key not in now]


def _change(
    row: Measurement,
    before: Measurement,
    rows: Sequence[Measurement],
    then: Mapping[str, Measurement],
) -> Change:
    if row.status != "ok":
        return Change(row, before, "lost", note=f"now {row.status}: {row.note}".rstrip(": "))
    rounds = _rounds(row, before, rows, then)
    most = max(rounds.values(), default=0)
    # Only rounds in which all took part count: one that left early would cost the others' rounds.
    shared = [
        peer for peer in rows if rounds.get(peer.contender, 0) >= max(FEWEST_ROUNDS, most / 2)
    ]
    now = _logs(row, shared)
    past = _logs(before, [then[peer.contender] for peer in shared])
    least = most if rounds else min(len(now), len(past))
    if least < FEWEST_ROUNDS:
        note = f"too few rounds to tell: {least}" + (" with any peer" if rounds else "")
        return Change(row, before, "unclear", row.time_ms / before.time_ms, note=note)
    factor, low, high = interval(now, past)
    names = tuple(peer.contender for peer in shared)
    found = verdict(low, high, MARGIN if shared else ABSOLUTE_MARGIN)
    note = "" if shared else "absolute times: no peer of the same version is in both runs"
    if (spread := max(_spread(now), _spread(past))) > DISTURBED:
        found = "unclear"
        note = f"disturbed: the rounds of one run spread over a factor of {spread:.2f}"
    if _process(row) != _process(before):
        found = "unclear"
        note = "contenders had a process each in one run and shared one in the other"
    return Change(row, before, found, factor, low, high, names, note)


def interval(now: Floats, past: Floats) -> tuple[float, float, float]:
    """(factor, low, high) of exp(mean(now) - mean(past)), from logs [rounds] of each run."""
    now, past = _clipped(now), _clipped(past)
    middle = now.mean() - past.mean()
    resampled = [
        (logs[draws(len(logs), stream=stream)].mean(axis=1) - logs.mean()) * _widening(len(logs))
        for stream, logs in enumerate((now, past))
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = middle + np.quantile(resampled[0] - resampled[1], [tail, 1 - tail])
    return math.exp(middle), math.exp(low), math.exp(high)


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of the factor says."""
    if low > 1 + margin:
        return "regression"
    if high < 1 / (1 + margin):
        return "improvement"
    return "same" if 1 / (1 + margin) <= low and high <= 1 + margin else "unclear"


def _rounds(
    row: Measurement,
    before: Measurement,
    rows: Sequence[Measurement],
    then: Mapping[str, Measurement],
) -> dict[str, int]:
    """Peer -> rounds shared with ours in the shorter run, for those timed in the same version, and
    in a process of their own in both runs or in neither."""
    found = {}
    for peer in rows:
        past = then.get(peer.contender)
        if peer.ours or past is None or not peer.status == past.status == "ok":
            continue
        if peer.version == past.version and _process(peer) == _process(past):
            samples = (row, peer, before, past)
            found[peer.contender] = min(len(each.samples_ms) for each in samples)
    return found


def _process(row: Measurement) -> object:
    return row.detail.get("process")


def _spread(logs: Floats) -> float:
    low, high = np.quantile(logs, [0.2, 0.8])
    return math.exp(high - low)


def _logs(ours: Measurement, peers: Sequence[Measurement]) -> Floats:
    """log(ours / median of the peers) of each round in which all took part."""
    rounds = min(len(row.samples_ms) for row in (ours, *peers))
    logs = np.log(np.asarray(ours.samples_ms[:rounds], float))
    if not peers:
        return logs
    others = np.log([np.asarray(peer.samples_ms[:rounds], float) for peer in peers])
    return logs - np.median(others, axis=0)


def _clipped(logs: Floats) -> Floats:
    middle = np.median(logs)
    deviation = 1.4826 * np.median(np.abs(logs - middle))  # of a normal: its standard deviation
    return np.clip(logs, middle - _CLIP * deviation, middle + _CLIP * deviation)


def _widening(rounds: int) -> float:
    """What a bootstrap of few values lacks: it knows neither Bessel's correction nor Student's t.

    The second factor is the first term of t's expansion around the normal quantile z.
    """
    z = 2.576  # of the two-sided 99 %
    freedom = rounds - 1
    return math.sqrt(rounds / freedom) * (1 + (z**2 + 1) / (4 * freedom))


def order(change: Change) -> tuple[int, float]:
    """Sorts what needs attention first."""
    first = ("lost", "regression", "improvement", "unclear", "same").index(change.verdict)
    return first, -(change.factor or 0.0)
