"""What the demo is made of: a case is loaded into work, and running that gives a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cvperf.backends.registry import ORIGINAL
from cvperf.bench.demo.agreement import Agreement
from cvperf.bench.timing import Timing
from cvperf.dropin.ledger import Row as Calls

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Picture:
    """A photo with what was found drawn on it."""

    caption: str
    image: Image


@dataclass(frozen=True)
class Work:
    """Loaded and ready: the callables do the same job and return the same kind of answer."""

    torch: Callable[[], Any]
    agree: Callable[[Any, Any], Agreement]
    cvperf: Callable[[], Any] | None = None
    """Only where there is no torch op to override; else ``torch`` runs inside ``cvperf.use``."""
    draw: Callable[[Any], list[Picture]] = lambda answer: []


@dataclass(frozen=True)
class Case:
    """One line of the demo; ``load`` fetches and builds, and is not timed."""

    name: str
    title: str
    about: str
    """What it runs on, and whether the weights are trained, random or none."""
    you_see: str
    load: Callable[[], Work]


@dataclass(frozen=True)
class Result:
    """What a case measured: a line of the table."""

    case: Case
    torch: Timing
    cvperf: Timing
    agreement: Agreement
    calls: tuple[Calls, ...] = ()
    """What ``cvperf.explain()`` said of one pass."""
    pictures: tuple[Picture, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times as fast cvperf is, by the medians."""
        return self.torch.median / self.cvperf.median

    @property
    def pace(self) -> str:
        """``faster`` or ``slower`` if three runs or more of each do not overlap, else ``even``."""
        if min(len(self.torch.samples_ms), len(self.cvperf.samples_ms)) < 3:
            return "even"
        if self.cvperf.high < self.torch.low:
            return "faster"
        if self.cvperf.low > self.torch.high:
            return "slower"
        return "even"

    @property
    def fallbacks(self) -> list[str]:
        """One sentence for each op of which some calls ran on the original, with the reasons."""
        return fallbacks(self.calls)


def fallbacks(calls: Sequence[Calls]) -> list[str]:
    """Say ``conv2d: 12 of 53 calls ran on the original: <reason>`` for each op that fell back."""
    by_op: dict[str, list[Calls]] = defaultdict(list)
    for call in calls:
        by_op[call.op].append(call)
    sentences = []
    for op, entries in by_op.items():
        fell = [entry for entry in entries if entry.backend == ORIGINAL]
        if count := sum(entry.calls for entry in fell):
            total = sum(entry.calls for entry in entries)
            reasons = "; ".join(dict.fromkeys(entry.reason for entry in fell))
            name = op.rpartition("::")[2]
            sentences.append(f"{name}: {count} of {total} calls ran on the original: {reasons}")
    return sentences
