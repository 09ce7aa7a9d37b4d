"""How loss, metrics and learning rate went, epoch by epoch, and the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cvperf.page import svg
from cvperf.page.svg import Plot

if TYPE_CHECKING:
    from cvperf.eval import Reliability

_PARTS = ("train", "validation")
_ERRORS = ("loss", "mae", "mse", "huber")
_LOG_FROM = 30.0  # times the least error: beyond this a linear axis hides the end of the curve
_DOTS = 40  # epochs that are few enough for each to have its dot

Curve = list[tuple[int, float]]
History = Sequence[Mapping[str, Any]]


def draw(history: History) -> list[Plot]:
    """The loss, each metric of the whole data set, and the learning rate."""
    found: dict[str, dict[str, Curve]] = {"loss": {}}
    for line in history:
        for part in _PARTS:
            for name, value in line.get(part, {}).items():
                if "/" not in name:  # those of one class are in the table
                    curve = found.setdefault(name, {}).setdefault(part, [])
                    curve.append((line["epoch"], float(value)))
    rates = [(line["epoch"], float(line["lr"])) for line in history if line.get("lr") is not None]
    plots = [_plot(name, curves) for name, curves in found.items() if curves]
    return [*plots, _plot("learning rate", {"": rates})] if rates else plots


def _plot(name: str, curves: Mapping[str, Curve]) -> Plot:
    """One figure; values that are no finite numbers are said, not drawn."""
    from matplotlib.ticker import MaxNLocator

    finite = {
        part: [(x, y) for x, y in curve if math.isfinite(y)] for part, curve in curves.items()
    }
    values = [y for curve in finite.values() for _, y in curve]
    lost = [
        f"epoch {x}{part and f' ({part})'}"
        for part, curve in curves.items()
        for x, y in curve
        if not math.isfinite(y)
    ]
    about = f"Not a finite number: {', '.join(lost)}." if lost else ""
    if not values:
        return Plot(name, about)
    with svg.axes(height=3.0) as (figure, plot):
        for part, curve in curves.items():
            colour = svg.series(_PARTS.index(part) if part else 2)
            y = [value if math.isfinite(value) else math.nan for _, value in curve]
            dots = "o" if len(curve) <= _DOTS else ""
            plot.plot(
                [x for x, _ in curve], y, color=colour, label=part, marker=dots, markersize=3.5
            )
        if name in _ERRORS and min(values) > 0 and max(values) > _LOG_FROM * min(values):
            svg.log(plot.yaxis)
        plot.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        plot.set_xlabel("epoch")
        if any(curves):
            svg.legend(plot, 2)
        return Plot(name, about, svg.inline(figure, name, about or "A curve over epochs."))


def reliability(bars: Reliability, error: float | None) -> Plot:
    """How often a prediction is right, by how probable the model called it."""
    title = "Reliability"
    about = (
        "Bars: how often predictions of that probability are right. Below the line the model is "
        "too sure, above it not sure enough. Dots: the share of all predictions."
    )
    if error is not None:
        about += f" Expected calibration error: {error:.3g}."
    bins = len(bars.predictions)
    centres = [(number + 0.5) / bins for number in range(bins)]
    shares = (bars.predictions / bars.predictions.sum().clamp(min=1)).tolist()
    filled = [number for number in range(bins) if shares[number]]
    with svg.axes(height=3.5) as (figure, plot):
        plot.plot([0, 1], [0, 1], color=svg.SOFT, linewidth=1)
        plot.bar(
            [centres[number] for number in filled],
            [float(bars.accuracy[number]) for number in filled],
            width=0.9 / bins,
            color=svg.series(0),
            label="how often right",
        )
        plot.plot(
            [centres[number] for number in filled],
            [shares[number] for number in filled],
            "o",
            color=svg.series(1),
            markersize=4,
            label="share of predictions",
        )
        plot.set_xlim(0, 1)
        plot.set_ylim(0, 1.02)
        plot.set_xlabel("probability")
        svg.legend(plot, 2)
        return Plot(title, about, svg.inline(figure, title, about))
