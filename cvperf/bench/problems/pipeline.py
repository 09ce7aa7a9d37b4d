"""A model of the demo with all that surrounds it, on real photos: what a user's program runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cvperf.bench.contender import Contender
from cvperf.bench.demo import cases
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.results import Measurement
from cvperf.bench.shares import shares

_PICTURE_PX = 320


@dataclass(frozen=True, kw_only=True)
class PipelineShape(Shape):
    """One case of ``cvperf bench demo``; its name is that of the case."""

    op: ClassVar[str] = "pipeline"

    layout: str = "n/a"

    @property
    def subject(self) -> str:
        return f"{self.name} pipeline"

    @property
    def flop(self) -> int:
        return 0  # not counted: how many boxes there are decides how much is computed

    @property
    def bytes(self) -> int:
        return 0

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"about": cases.select([self.name])[0].about}

    def problem(self, seed: int = 0, device: str = "cpu") -> Pipeline:
        return Pipeline(self)


class Pipeline(Problem):
    """``work`` is the demo's; the reference is what torch gives, in float32."""

    shape: PipelineShape

    def __init__(self, shape: PipelineShape) -> None:
        self.shape = shape
        self.case = cases.select([shape.name])[0]
        self.work = self.case.load()

    @property
    def tolerance(self) -> float:
        return 0.5  # pixels of a box corner, or the same labels: see demo/agreement.py

    def reference(self) -> Any:
        return self.work.torch()

    def error(self, expected: Any, answer: Any) -> float:
        agreement = self.work.agree(expected, answer)
        return agreement.error if agreement.same else float("inf")

    def detail(self, row: Measurement, contender: Contender | None) -> dict[str, Any]:
        detail: dict[str, Any] = {"weights": self.case.about, "you_see": self.case.you_see}
        if row.median_ms is None or contender is None:
            return detail
        detail |= shares(row, contender)
        if row.ours:
            drawn = self.work.draw(contender.once())
            detail["pictures"] = [{"caption": p.caption, "png": _png(p.image)} for p in drawn]
        return detail


def _png(image: Any) -> str:
    small = image.copy()
    small.thumbnail((_PICTURE_PX, _PICTURE_PX))
    buffer = io.BytesIO()
    small.quantize(64).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
