"""Pictures with the objects that were found in them, as SVG inside the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["right", "false", "missed", "seen", "found"]
KINDS: dict[str, str] = {
    "right": "right answers",
    "false": "false answers",
    "missed": "objects that were missed",
    "seen": "objects that were found",
    "found": "answers",
}
"""Kind of a mark -> what it says; ``found``: where nobody knows what is there."""
_WORDS = 12  # marks that are few enough for each to have its name beside it


@dataclass(frozen=True)
class Mark:
    """An answer of the model, or an object that is there."""

    kind: Kind
    box: tuple[float, float, float, float]
    """XYXY in pixels."""
    text: str
    mask: Tensor | None = None
    """bool [H, W]."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def path(self) -> str:
        """The mask as an SVG path: a rectangle for each run of a row."""
        return "" if self.mask is None else runs(self.mask)


@dataclass(frozen=True)
class Scene:
    """A picture with marks."""

    image: Tensor
    """uint8 [C, H, W], C 1 (grey) or 3 (RGB)."""
    marks: Sequence[Mark]

    @property
    def mistakes(self) -> int:
        """False answers, and objects that were missed."""
        return sum(mark.kind in ("false", "missed") for mark in self.marks)

    @property
    def counts(self) -> str:
        """How many marks of each kind there are, but for objects that answers stand for."""
        counts = Counter(mark.kind for mark in self.marks)
        return ", ".join(
            f"{counts[k]} {k}" for k in ("right", "false", "missed", "found") if counts[k]
        )

    @property
    def masked(self) -> bool:
        """Whether some mark has a mask."""
        return any(mark.mask is not None for mark in self.marks)

    @property
    def words(self) -> bool:
        """Whether names fit beside the boxes."""
        return len(self.marks) <= _WORDS


def kinds(scenes: Sequence[Scene]) -> dict[str, str]:
    """Of :data:`KINDS`, those that some scene has."""
    there = {mark.kind for scene in scenes for mark in scene.marks}
    return {kind: about for kind, about in KINDS.items() if kind in there}


def runs(mask: Tensor) -> str:
    """``M x y h length v1 h -length z`` for each run of a row of a mask, bool [H, W]."""
    edges = F.pad(mask.to(torch.int8), (1, 1)).diff(dim=1)
    rows, starts = (edges == 1).nonzero(as_tuple=True)
    ends = (edges == -1).nonzero(as_tuple=True)[1]
    found = zip(starts.tolist(), rows.tolist(), (ends - starts).tolist(), strict=True)
    return "".join(f"M{x} {y}h{length}v1h-{length}z" for x, y, length in found)
