"""Who ran each overridden op, how often, and why: what ``cvperf.explain()`` shows."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from cvperf.backends.registry import ORIGINAL, UNMEASURED

NOT_CALLED = "not called"
PASSED_BY = f"on a GPU {UNMEASURED}; these calls are not counted"

_lock = threading.Lock()
_calls: dict[tuple[str, str, str], tuple[int, int]] = {}  # (op, backend, reason) -> calls, FLOP
_overridden: dict[str, bool] = {}  # op -> whether its calls on a GPU pass by


@dataclass(frozen=True)
class Row:
    """One line of the explanation.

    Attributes:
        op: the overridden op, such as ``"torchvision::nms"``.
        calls: how often it ran this way.
        backend: ``"cvperf.cpu"``, ``"cvperf.cuda"``, ``"cvperf.triton"``, ``"original"``, or
            ``"not called"``.
        reason: why that backend ran.
        flop: products and sums of these calls, two for each multiply-add; 0 where they are not
            what an op takes its time for.
    """

    op: str
    calls: int
    backend: str
    reason: str
    flop: int = 0


@dataclass(frozen=True)
class Explanation:
    """What ran where; ``str()`` gives it as a table."""

    rows: tuple[Row, ...]

    @property
    def covered(self) -> float:
        """Share of the products and sums of convolutions that ran on our kernels; NaN of none."""
        total = sum(row.flop for row in self.rows)
        ours = sum(row.flop for row in self.rows if row.backend != ORIGINAL)
        return ours / total if total else math.nan

    def __str__(self) -> str:
        if not self.rows:
            return "cvperf overrides no op: use cvperf.use(...) or cvperf.enable() first"
        total = sum(row.flop for row in self.rows)
        lines = [("op", "calls", "FLOP", "ran on", "why")]
        lines += [
            (row.op, str(row.calls), _share(row.flop, total), row.backend, row.reason)
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        return "\n".join(
            f"{op:<{widths[0]}}  {calls:>{widths[1]}}  {flop:>{widths[2]}}  "
            f"{backend:<{widths[3]}}  {why}"
            for op, calls, flop, backend, why in lines
        )


def _share(flop: int, total: int) -> str:
    return f"{flop / total:.1%}" if flop else ""


def record(op: str, backend: str, reason: str, flop: int = 0) -> None:
    """Count one call of an overridden op, and its products and sums."""
    key = (op, backend, reason)
    with _lock:
        calls, before = _calls.get(key, (0, 0))
        _calls[key] = calls + 1, before + flop


def opened(op: str, passed_by: bool) -> None:
    """Note that ``op`` is now overridden; ``passed_by``: not on the GPU that this machine has."""
    _overridden[op] = passed_by


def closed(op: str) -> None:
    """Note that ``op`` is the original again; its counts stay until they are reset."""
    del _overridden[op]


def explain(*, reset: bool = False) -> Explanation:
    """Who ran each overridden op since the counts were last reset.

    Args:
        reset: start counting anew after this answer.

    Returns:
        One row for each (op, backend, reason), most calls first; one for each op that is
        overridden now but was not called; and where there is a GPU one for each that is not
        overridden there. Counts outlive the ``use`` block that made them.
    """
    with _lock:
        rows = [
            Row(op, calls, backend, why, flop)
            for (op, backend, why), (calls, flop) in _calls.items()
        ]
        if reset:
            _calls.clear()
    rows.sort(key=lambda row: (row.op, -row.calls, row.backend, row.reason))
    called = {row.op for row in rows}
    idle = [Row(op, 0, NOT_CALLED, "overridden, waiting") for op in _overridden if op not in called]
    passed = [Row(op, 0, ORIGINAL, PASSED_BY) for op, by in _overridden.items() if by]
    return Explanation((*rows, *idle, *passed))
