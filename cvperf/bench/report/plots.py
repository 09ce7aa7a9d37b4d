"""The plots of one op: ratio, time, roofline, error, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cvperf.bench.report.looks import Look
from cvperf.bench.report.summary import Contest, Group
from cvperf.bench.results import Measurement
from cvperf.page import svg
from cvperf.page.svg import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cvperf.bench.roofline import Ceilings

Looks = Mapping[str, Look]
_COLOURS = {
    "faster": svg.GOOD, "even": svg.SOFT, "slower": svg.BAD, "undecided": svg.SOFT,
}  # fmt: skip
_SIZES = {
    **dict.fromkeys(("nms", "batched_nms", "nms_padded", "soft_nms"), "boxes"),
    **{"roi_align": "values of the output", "roi_align_backward": "values"},
}


def of_op(groups: Sequence[Group], looks: Looks, ceilings: Ceilings | None) -> list[Plot]:
    """The plots of one op on one device in one dtype.

    Args:
        groups: one for each variant of ours; their cases may be the same.
        looks: how each contender is drawn.
        ceilings: of the machine; None where they were not measured.
    """
    contests = [contest for group in groups for contest in group.contests]
    rows = {row.key: row for contest in contests for row in contest.rows}
    timed = [row for row in rows.values() if row.status == "ok"]
    if not timed:
        return []
    plots = [ratios(group) for group in groups]
    plots += [times(timed, looks), rooflines(timed, looks, ceilings)]
    plots += [errors(contests, looks), memory(timed, looks)]
    return sorted(plots, key=lambda plot: not plot.svg)  # those that only say what is missing last


def ratios(group: Group) -> Plot:
    """Every case as a point with its interval, sorted: nothing is averaged away."""
    from matplotlib.ticker import MaxNLocator

    ours = group.contender or "cvperf"
    title = f"{ours}: ratio to the best peer, case by case"
    judged = group.judged
    if not judged:
        return Plot(title, f"No case has a time of {ours} and of a peer.")
    about = (
        f"Cases sorted by ratio, each with its 95 % interval. Above 1 {ours} is faster. "
        "Grey: no clear difference, or too few rounds to tell."
    )
    with svg.axes() as (figure, plot):
        plot.axhline(1, color=svg.INK, linewidth=1)
        for verdict, colour in _COLOURS.items():
            at = [(i, c.ratio) for i, c in enumerate(judged, 1) if c.verdict == verdict]
            points = [(i, ratio) for i, ratio in at if ratio is not None]
            if not points:
                continue
            x = [i for i, _ in points]
            y = [ratio.value for _, ratio in points]
            low = [ratio.low or ratio.value for _, ratio in points]
            high = [ratio.high or ratio.value for _, ratio in points]
            plot.vlines(x, low, high, color=colour, linewidth=1)
            marker = "x" if verdict == "undecided" else "o"
            label = {"even": "no clear difference", "undecided": "too few rounds"}
            label_text = f"{label.get(verdict, verdict)}: {len(x)}"
            plot.plot(x, y, marker, color=colour, markersize=3.5, label=label_text)
        svg.log(plot.yaxis)
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.set_xlabel("cases, sorted")
        plot.set_ylabel(f"best peer's time / {ours}'s time")
        plot.grid(axis="x", visible=False)
        svg.legend(plot, 2)
        return Plot(title, about, svg.inline(figure, title, about))


def times(rows: Sequence[Measurement], looks: Looks) -> Plot:
    """Median time over size, every contender."""
    title = "Time against size"
    about = "Median of each case. Lower is faster."
    points = _points(rows, lambda row: row.size, lambda row: row.median_ms)
    return _scatter(title, about, points, looks, _size_name(rows[0]), "time of a call (ms)")


def memory(rows: Sequence[Measurement], looks: Looks) -> Plot:
    """Peak memory over size."""
    title = "Memory against size"
    about = "The most that one call holds beyond what was in use before it, its output included."
    points = _points(rows, lambda row: row.size, _mebibytes)
    none = sum(1 for row in rows if row.peak_bytes == 0)
    if none:
        about += f" Not drawn, because they held nothing measurable: {none}."
    if not points:
        return Plot(title, "Peak memory is not in these results.")
    return _scatter(title, about, points, looks, _size_name(rows[0]), "peak memory (MiB)")


def rooflines(rows: Sequence[Measurement], looks: Looks, ceilings: Ceilings | None) -> Plot:
    """Achieved rate under the measured ceilings."""
    if ceilings is None:
        text = "No ceilings in these results: measure them with 'cvperf bench peaks' and pass both."
        return Plot("Roofline", text)
    if any(row.flop for row in rows):
        return _flop_roofline(rows, looks, ceilings)
    return _byte_roofline(rows, looks, ceilings)


def _flop_roofline(rows: Sequence[Measurement], looks: Looks, ceilings: Ceilings) -> Plot:
    title = "Roofline"
    about = (
        "Operations a second over operations per byte moved, under the rates measured on this "
        "machine. A point above a line is one whose data fits the faster level, or an algorithm "
        "that needs fewer operations than the textbook's."
    )
    peak = ceilings.flops.get(rows[0].dtype)
    if peak is None:
        about += f" The arithmetic rate for {rows[0].dtype} was not measured."
    points = _points(
        [row for row in rows if row.bytes and row.flop],
        lambda row: row.flop / row.bytes,
        lambda row: row.flop / _seconds(row),
    )
    if not points:
        return Plot(title, "No row has operations and bytes.")

    def roofs(plot: Axes) -> None:
        left, right = _wider(x for series in points.values() for x, _ in series)
        left /= 4  # the bandwidths' slopes lie here
        top = peak or max(y for series in points.values() for _, y in series)
        for level in ceilings.levels:
            knee = min(top / level.rate, right)
            if knee <= left:
                continue  # far above every call of this op
            plot.plot([left, knee], [left * level.rate, knee * level.rate], color=svg.SOFT, lw=1)
            _beside(plot, left, left * level.rate, f"{level.name} {svg.short(level.rate)}B/s")
        if peak is not None:
            start = min(peak / max(level.rate for level in ceilings.levels), right)
            plot.plot([max(start, left), right], [peak, peak], color=svg.INK, lw=1.2)
            _beside(plot, right, peak, f"{rows[0].dtype} {svg.short(peak)}op/s", right=True)

    x_name, y_name = "operations / byte", "operations / second"
    return _scatter(title, about, points, looks, x_name, y_name, roofs)


def _byte_roofline(rows: Sequence[Measurement], looks: Looks, ceilings: Ceilings) -> Plot:
    title = "Roofline: bandwidth"
    about = (
        "Input and output bytes a second over their amount, under the copy rates measured on this "
        "machine. The op's arithmetic depends on the data, so only bytes are counted."
    )
    points = _points(
        [row for row in rows if row.bytes],
        lambda row: float(row.bytes),
        lambda row: row.bytes / _seconds(row),
    )
    if not points:
        return Plot(title, "No row has bytes.")

    def roofs(plot: Axes) -> None:
        left, right = _wider(x for series in points.values() for x, _ in series)
        for level in ceilings.levels:
            end = right if level is ceilings.levels[-1] else min(right, float(level.capacity))
            if end <= left:
                continue  # no call here is so small that it fits this cache
            plot.plot([left, end], [level.rate, level.rate], color=svg.SOFT, lw=1)
            _beside(plot, left, level.rate, f"{level.name} {svg.short(level.rate)}B/s")

    return _scatter(title, about, points, looks, "bytes read and written", "bytes / second", roofs)


def errors(contests: Iterable[Contest], looks: Looks) -> Plot:
    """Error as a share of its tolerance, over time as a multiple of the fastest."""
    title = "Error beside speed"
    about = (
        "Left is fast (1: the fastest of the case), low is exact. The line is the tolerance: an "
        "answer above it gets no time, and its row says so."
    )
    races = {contest.rows[0].race: contest.rows for contest in contests}.values()
    points: dict[str, list[tuple[float, float]]] = {}
    exact = 0
    for rows in races:
        timed = [row for row in rows if row.median_ms is not None]
        fastest = min((row.median_ms for row in timed if row.median_ms), default=1.0)
        for row in timed:
            if row.error and row.tolerance and row.median_ms:
                point = (row.median_ms / fastest, row.error / row.tolerance)
                points.setdefault(row.contender, []).append(point)
            elif row.error == 0:
                exact += 1
    if not points:
        return Plot(title, f"Nothing to draw: all {exact} answers with a known error are exact.")
    if exact:
        about += f" Not drawn, because they are exact: {exact}."

    def limit(plot: Axes) -> None:
        plot.axhline(1, color=svg.BAD, lw=1.2)

    x_name, y_name = "time / fastest contender's time", "error / tolerance"
    return _scatter(title, about, points, looks, x_name, y_name, limit)


def _scatter(
    title: str,
    about: str,
    points: Mapping[str, Sequence[tuple[float, float]]],
    looks: Looks,
    x_name: str,
    y_name: str,
    beneath: Callable[[Axes], None] = lambda plot: None,
) -> Plot:
    """Both axes logarithmic, a series for each contender, ours on top."""
    if not points:
        return Plot(title, "No row has these figures.")
    with svg.axes() as (figure, plot):
        beneath(plot)
        for name, series in sorted(points.items()):
            look = looks[name]
            plot.plot(
                *zip(*series, strict=True), look.marker, color=look.colour, label=name,
                markersize=look.size, markeredgewidth=0.4, markeredgecolor=svg.CARD,
                zorder=look.layer,
            )  # fmt: skip
        svg.log(plot.xaxis)
        svg.log(plot.yaxis)
        plot.set_xlabel(x_name)
        plot.set_ylabel(y_name)
        svg.legend(plot, 3)
        return Plot(title, about, svg.inline(figure, title, about))


def _points(
    rows: Iterable[Measurement],
    x: Callable[[Measurement], float | None],
    y: Callable[[Measurement], float | None],
) -> dict[str, list[tuple[float, float]]]:
    """Contender -> points; a logarithmic axis has no place for zero or nothing."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        across, up = x(row), y(row)
        if across and up:
            found.setdefault(row.contender, []).append((across, up))
    return found


def _beside(plot: Axes, x: float, y: float, text: str, right: bool = False) -> None:
    plot.annotate(
        text, (x, y), xytext=(0, 3), textcoords="offset points",
        fontsize=7.5, color=svg.SOFT, ha="right" if right else "left", annotation_clip=False,
    )  # fmt: skip


def _wider(values: Iterable[float]) -> tuple[float, float]:
    """A range with room on either side, for lines that should reach past the points."""
    found = list(values)
    return min(found) / 2, max(found) * 2


def _size_name(row: Measurement) -> str:
    if row.op in _SIZES:
        return f"size ({_SIZES[row.op]})"
    return "size (operations of a call)" if row.size == row.flop else "size"


def _seconds(row: Measurement) -> float:
    assert row.median_ms is not None
    return row.median_ms / 1e3


def _mebibytes(row: Measurement) -> float | None:
    return None if row.peak_bytes is None else row.peak_bytes / 2**20
