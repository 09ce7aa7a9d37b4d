"""What cvperf would serve of a profile, what that saves, and the lines to add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cvperf.dropin.overrides import OVERRIDES, Override
from cvperf.profiler import calls
from cvperf.profiler.speedups import Ratio, Speedups
from cvperf.profiler.tables import Call

FAR = 3.0
"""A ratio read from a shape this many doublings away is said to be a guess."""

_NEGLIGIBLE = 0.001
"""Calls that take less of the pass are not remarked on, such as those without a single box."""

_TARGETS: dict[str, tuple[str, Override]] = {
    override.target: (name, override) for name, group in OVERRIDES.items() for override in group
}
"""Overridden op -> its name in ``cvperf.use`` and the drop-in's own rule."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of all calls of one op with one shape."""

    call: Call
    name: str
    """The name in ``cvperf.use``."""
    refusal: str | None
    """Why the original runs them; None where ours would."""
    ratio: Ratio | None
    """The original's time over ours; None where the ledger does not say."""

    @property
    def saving_ms(self) -> float:
        """Of the measured time, what goes when ours run; the drop-in's own cost not counted."""
        if self.refusal is not None or self.ratio is None:
            return 0.0
        return self.call.ms * (1 - 1 / self.ratio.value)


@dataclass
class Line:
    """The verdicts under one name of ``cvperf.use``."""

    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    cost_ms: float = 0.0
    """What the drop-in itself adds over all these calls."""

    @property
    def served(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.refusal is None]

    @property
    def calls(self) -> int:
        return _count(self.verdicts)

    @property
    def served_calls(self) -> int:
        return _count(self.served)

    @property
    def ms(self) -> float:
        return sum(verdict.call.ms for verdict in self.verdicts)

    @property
    def served_ms(self) -> float:
        return sum(verdict.call.ms for verdict in self.served)

    @property
    def saving_ms(self) -> float:
        """What it saves, less what the drop-in costs."""
        return sum(verdict.saving_ms for verdict in self.verdicts) - self.cost_ms

    @property
    def ratio(self) -> float | None:
        """Of the served calls whose ratio is known, all together."""
        known = [verdict for verdict in self.served if verdict.ratio is not None]
        before = sum(verdict.call.ms for verdict in known)
        after = before - sum(verdict.saving_ms for verdict in known)
        return before / after if after > 0 else None

    @property
    def cases(self) -> list[str]:
        """The ledger's cases that its ratios were read from, those of the longest calls first."""
        found: dict[str, None] = {}
        for verdict in sorted(self.served, key=lambda verdict: -verdict.call.ms):
            if verdict.ratio is not None:
                found |= dict.fromkeys(verdict.ratio.cases)
        return list(found)

    @property
    def reasons(self) -> dict[str, tuple[int, float]]:
        """Why the original runs -> (calls, milliseconds), most time first."""
        found: dict[str, tuple[int, float]] = {}
        for verdict in self.verdicts:
            if verdict.refusal is not None:
                count, ms = found.get(verdict.refusal, (0, 0.0))
                found[verdict.refusal] = (count + len(verdict.call.us), ms + verdict.call.ms)
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


@dataclass(frozen=True)
class Advice:
    """The advisor's answer."""

    lines: tuple[Line, ...]
    """One a name that the profile has calls of."""
    wall_ms: float
    ledger: str
    """Which machine the ratios are of, or why there are none."""
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What to give to ``cvperf.use``: the names that save time."""
        return tuple(line.name for line in self.lines if line.saving_ms > 0)

    @property
    def saving_ms(self) -> float:
        """Predicted for those names together."""
        return sum(line.saving_ms for line in self.lines if line.name in self.names)

    @property
    def share(self) -> float:
        """The predicted saving over the whole pass."""
        return self.saving_ms / self.wall_ms if self.wall_ms else 0.0

    @property
    def code(self) -> str:
        """The lines to add; empty where nothing is saved."""
        if not self.names:
            return ""
        names = ", ".join(f'"{name}"' for name in self.names)
        return f"import cvperf\n\nwith cvperf.use({names}):\n    ...  # your call of the model"


def advise(rows: Sequence[Call], wall_ms: float, speedups: Speedups) -> Advice:
    """Hold every recorded call against the drop-in's rule, and the served ones against the ledger.

    Args:
        rows: the calls of the profile.
        wall_ms: milliseconds of the pass.
        speedups: the ledger's ratios.
    """
    lines: dict[str, Line] = {}
    unknown: dict[str, float] = {}
    for call in rows:
        if call.op not in _TARGETS:
            continue
        verdict = _judge(call, speedups)
        line = lines.setdefault(verdict.name, Line(verdict.name))
        line.verdicts.append(verdict)
        if verdict.refusal is None and verdict.ratio is None:
            unknown[call.family] = unknown.get(call.family, 0.0) + call.ms
        added_us = speedups.served_us if verdict.refusal is None else speedups.refused_us
        line.cost_ms += added_us * len(call.us) / 1e3
    ordered = sorted(lines.values(), key=lambda line: -line.saving_ms)
    notes = [*speedups.notes, *_far(ordered)]
    notes += [
        f"{family}: {ms:.1f} ms of served calls have no row in the ledger with their dtype, layout "
        "and kind: no saving is predicted for them"
        for family, ms in unknown.items()
        if speedups.pairs and ms > _NEGLIGIBLE * wall_ms
    ]
    return Advice(tuple(ordered), wall_ms, speedups.about, tuple(notes))


def _judge(call: Call, speedups: Speedups) -> Verdict:
    name, override = _TARGETS[call.op]
    try:
        arguments = calls.values(call.arguments, call.device)
    except ValueError as error:
        return Verdict(call, name, f"not known: {error}", None)
    refusal = override.refuse(*arguments)
    ratio = _ratio(call, speedups) if refusal is None else None
    return Verdict(call, name, refusal, ratio)


def _ratio(call: Call, speedups: Speedups) -> Ratio | None:
    """A convolution's two gradients are two shapes with as many operations each."""
    found = [speedups.ratio(shape) for shape in call.shapes]
    known = [ratio for ratio in found if ratio is not None]
    if not known or len(known) < len(found):
        return None
    mean = len(known) / sum(1 / ratio.value for ratio in known)
    cases = tuple(case for ratio in known for case in ratio.cases)
    return Ratio(mean, cases, max(ratio.distance for ratio in known))


def _far(lines: Sequence[Line]) -> list[str]:
    notes = []
    for line in lines:
        far = [v for v in line.served if v.ratio is not None and v.ratio.distance > FAR]
        if far:
            ms = sum(verdict.call.ms for verdict in far)
            notes.append(
                f"{line.name}: the ledger's nearest shapes are far from {_count(far)} served calls "
                f"({ms:.1f} ms); their saving is a guess"
            )
    return notes


def _count(verdicts: Sequence[Verdict]) -> int:
    return sum(len(verdict.call.us) for verdict in verdicts)
