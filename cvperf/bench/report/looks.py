"""How each contender is drawn: the same in every plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvperf.page import svg

_MARKERS = "sv^D<>pPXhd*"  # colours repeat before markers do


@dataclass(frozen=True)
class Look:
    """How a contender is drawn, everywhere."""

    colour: str
    marker: str
    ours: bool

    @property
    def size(self) -> float:
        return 5.0 if self.ours else 4.0

    @property
    def layer(self) -> int:
        return 10 if self.ours else 5


def looks(contenders: Sequence[str], ours: Sequence[str]) -> dict[str, Look]:
    """A look for each name: ours in the accent colour, peers in the order of their names."""
    found = {name: Look(svg.OURS, "oHd8"[i % 4], True) for i, name in enumerate(sorted(set(ours)))}
    peers = sorted(set(contenders) - set(found))
    for number, name in enumerate(peers):
        found[name] = Look(svg.series(number), _MARKERS[number % len(_MARKERS)], False)
    return found
