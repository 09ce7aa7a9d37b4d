"""The advisor held against the clock: the target with and without ``cvperf.use``."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from cvperf.bench.contender import Contender
from cvperf.bench.timing import Plan, measure
from cvperf.dropin import use
from cvperf.profiler.advisor import Advice
from cvperf.profiler.target import ProfileError, Target


@dataclass(frozen=True)
class Check:
    """What was predicted, and what was gained when it was tried."""

    predicted_ms: float
    predicted_share: float
    """Of the profiled pass."""
    gained_ms: float
    """Median difference of runs that took turns."""
    torch_ms: float
    cvperf_ms: float

    @property
    def gained_share(self) -> float:
        """Of the runs without cvperf.use."""
        return self.gained_ms / self.torch_ms

    @property
    def error(self) -> float:
        """How far the predicted share is from the gained one, over the gained one."""
        return abs(self.predicted_share - self.gained_share) / abs(self.gained_share)


def check(target: Target, advice: Advice, repeats: int) -> Check:
    """Run a repeatable target as it is and inside ``cvperf.use(*advice.names)``, in turns.

    Raises:
        ProfileError: the advice is to change nothing.
    """
    if not advice.names:
        raise ProfileError("--check has nothing to try: the advisor predicts no saving")
    contenders = [
        Contender(target.run),
        Contender(target.run, context=lambda: use(*advice.names)),
    ]
    samples = max(repeats, 3)
    plan = Plan(
        seconds=max(2.0, 2 * samples * advice.wall_ms / 1e3), min_samples=samples, precision=0.005
    )
    plain, served = measure(contenders, plan)
    paired = zip(plain.samples_ms, served.samples_ms, strict=False)
    return Check(
        predicted_ms=advice.saving_ms,
        predicted_share=advice.share,
        gained_ms=statistics.median(before - after for before, after in paired),
        torch_ms=plain.median,
        cvperf_ms=served.median,
    )
