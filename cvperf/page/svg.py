"""matplotlib figures as inline SVG whose colours and fonts are the page's."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# matplotlib draws with these; the page has a variable for each, in light and in dark.
INK, SOFT, LINE, CARD, GOOD, BAD, OURS = (f"#0000{number:02x}" for number in range(1, 8))
_VARIABLES = {
    INK: "ink", SOFT: "soft", LINE: "line", CARD: "card", GOOD: "good", BAD: "bad", OURS: "ours",
}  # fmt: skip
_FIRST_SERIES = 0x10
SERIES = 10
"""How many colours the page has for series that stand beside each other."""


@dataclass(frozen=True)
class Plot:
    """A figure with its title, or the reason why there is none."""

    title: str
    about: str
    """How to read it; where ``svg`` is empty, what is missing."""
    svg: str = ""


def series(number: int) -> str:
    """The colour of one series among several; they repeat after ``SERIES``."""
    return f"#0000{_FIRST_SERIES + number % SERIES:02x}"


@contextmanager
def axes(width: float = 4.5, height: float = 3.5) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the page's colours, width and height in inches; small, so that its text is
    still readable on a phone."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "cvperf",  # the same plot gives the same file
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": SOFT,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        plot = figure.add_subplot()
        plot.patch.set_alpha(0)
        yield figure, plot


def log(axis: Axis) -> None:
    """Logarithmic, with more ticks the shorter the range, written as people do."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    name = "x" if axis is axis.axes.xaxis else "y"
    axis.axes.set(**{f"{name}scale": "log"})
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    parts: tuple[float, ...] = (1,)
    if decades < 0.9:
        parts = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    elif decades < 2.5:
        parts = (1, 2, 5)
    most = 8 if len(parts) == 1 else 20
    axis.set_major_locator(LogLocator(subs=parts, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """``0.001``, ``20``, ``1.5 G``."""
    if value < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def legend(plot: Axes, columns: int) -> None:
    """The names of the series, below the axes."""
    figure = plot.get_figure()
    assert figure is not None
    figure.legend(loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.0)


def inline(figure: Figure, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element for the page, with a title for those who hear it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    head = (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(f"{title}. {description}")}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    text = head + text[text.index(">") + 1 :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every figure, and never referred to
    text = re.sub(r'<g clip-path="[^"]*">\s*(<use .*?)</g>', _one_style, text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's own
    text = re.sub(r"#0000[0-9a-f]{2}", _variable, text)
    text = re.sub(r'( (?:x|y|d|transform)="[^"]*")', _shorter, text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _one_style(group: re.Match[str]) -> str:
    """Points of one series repeat their style; it is said once, on the group."""
    styles = set(re.findall(r'style="([^"]*)"', group[1]))
    if len(styles) != 1:
        return group[0]
    clip = group[0][: group[0].index(">")]
    return f'{clip} style="{styles.pop()}">' + re.sub(r' style="[^"]*"', "", group[1]) + "</g>"


def _shorter(attribute: re.Match[str]) -> str:
    """A hundredth of a point is enough for a place on the page."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def _variable(colour: re.Match[str]) -> str:
    name = _VARIABLES.get(colour[0])
    return f"var(--{name or f'c{int(colour[0][-2:], 16) - _FIRST_SERIES}'})"
