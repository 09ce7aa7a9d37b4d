"""Numbers as a reader wants them: few digits, and a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cvperf.bench.report.paired import Ratio

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def ms(milliseconds: float | None) -> str:
    """Three significant digits: 0.123, 12.3, 4,567; empty for None."""
    return "" if milliseconds is None else digits(milliseconds)


def digits(value: float) -> str:
    """Three significant digits, in full: 0.00123, 12.3, 4,567."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def times(factor: float | None) -> str:
    """``1.23``: two digits after the point, more below 0.1, where they would be lost."""
    if factor is None:
        return ""
    return f"{factor:.2f}" if factor >= 0.1 else f"{factor:.2g}"


def interval(low: float | None, high: float | None) -> str:
    """``1.10 to 1.32``, or empty."""
    return "" if low is None or high is None else f"{times(low)} to {times(high)}"


def with_interval(ratio: Ratio | None) -> str:
    """``1.23 (1.10 to 1.32)``."""
    if ratio is None:
        return ""
    spread = interval(ratio.low, ratio.high)
    return f"{times(ratio.value)} ({spread})" if spread else f"{times(ratio.value)} (no interval)"


def error(value: float | None) -> str:
    """``0``, ``2.1e-07``, or empty."""
    if value is None:
        return ""
    return f"{value:.1e}" if value else "0"


def percent(share: float | None) -> str:
    """A share of 1 as ``45 %``; one digit more below 10."""
    if share is None:
        return ""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def scaled(value: float | None, unit: str) -> str:
    """``1.23 GB``: decimal prefixes, as rates and file sizes have them."""
    if value is None:
        return ""
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{digits(value / size)} {prefix}{unit}"
    return f"{digits(value)} {unit}"


def shape(numbers: Mapping[str, Any]) -> str:
    """``input 1x64x56x56, stride 1x1, groups 1``: a call in one line."""
    return ", ".join(f"{name} {_value(value)}" for name, value in numbers.items())


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "x".join(map(str, value))
    return str(value)
