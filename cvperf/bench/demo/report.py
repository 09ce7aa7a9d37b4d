"""The demo's results as a terminal table, JSON lines, and one self-contained page."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cvperf import environment, files
from cvperf.bench.demo.case import Result
from cvperf.bench.demo.pictures import data_url
from cvperf.bench.timing import Timing
from cvperf.page import templates

if TYPE_CHECKING:
    from rich.table import Table

_PACE = {
    "faster": "faster",
    "slower": "slower",
    "even": "no clear difference",  # the ranges of the two overlap, or there are too few runs
}


def exit_code(results: Sequence[Result]) -> int:
    """0 when every case gives the same answer with cvperf as without, else 1."""
    return 0 if all(result.agreement.same for result in results) else 1


def verdict(results: Sequence[Result]) -> str:
    """The one line to read: do the answers agree, and how many cases are faster."""
    different = [result.case.name for result in results if not result.agreement.same]
    if different:
        return f"FAILED: with cvperf the answer differs in {', '.join(different)}"
    counts = {pace: [r for r in results if r.pace == pace] for pace in _PACE}
    parts = [f"{len(counts['faster'])} faster"]
    if even := counts["even"]:
        parts.append(f"{len(even)} with no clear difference")
    if slower := counts["slower"]:
        parts.append(f"{len(slower)} slower ({_names(slower)})")
    fell_back = sum(1 for result in results if result.fallbacks)
    if fell_back:
        parts.append(f"{fell_back} ran some calls on the original, as noted")
    return f"PASSED: the answers of all {len(results)} cases agree; {', '.join(parts)}"


def note(result: Result) -> str:
    """What the numbers alone do not say: what differs, what fell back, and the spread."""
    parts = [result.agreement.detail] if result.agreement.detail else []
    parts += result.fallbacks
    if result.pace != "faster":
        parts.append(_PACE[result.pace])
    return ". ".join(parts)


def record(result: Result, facts: dict[str, str]) -> dict[str, object]:
    """One JSON object; an error that is not a number becomes null."""
    error = result.agreement.error
    return {
        "case": result.case.name,
        "about": result.case.about,
        "torch_ms": result.torch.median,
        "cvperf_ms": result.cvperf.median,
        "ratio": result.ratio,
        "spread": {"torch_ms": result.torch.samples_ms, "cvperf_ms": result.cvperf.samples_ms},
        "max_error": error if math.isfinite(error) else None,
        "same": result.agreement.same,
        "compared": result.agreement.about,
        "fallbacks": result.fallbacks,
        "environment": facts,
    }


def write(output_dir: Path, results: Sequence[Result], repeats: int, complete: bool) -> None:
    """Write ``demo.jsonl`` and ``index.html`` into ``output_dir``."""
    facts = _facts()
    output_dir.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record(result, facts), allow_nan=False) + "\n" for result in results]
    files.replace(output_dir / "demo.jsonl", "".join(lines))
    command = "cvperf bench demo"
    if not complete:
        command += "".join(f" --only {result.case.name}" for result in results)
    if repeats != 3:
        command += f" --repeats {repeats}"
    files.replace(output_dir / "index.html", page(results, facts, repeats, command))


def page(results: Sequence[Result], facts: dict[str, str], repeats: int, command: str) -> str:
    """The HTML page; pictures and style are inside it."""
    found = templates("cvperf.bench")
    found.filters |= {"data_url": data_url, "ms": ms, "error": error_text}
    return found.get_template("demo.html.j2").render(
        results=results,
        facts=facts,
        repeats=repeats,
        command=command,
        verdict=verdict(results),
        passed=exit_code(results) == 0,
        note=note,
        fastest=max(max(result.ratio for result in results), 1.0),
    )


def show(output_dir: Path, results: Sequence[Result]) -> None:
    """Print the table, the notes, where the page is, and the verdict last."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(table(results))
    for result in results:
        if text := note(result):
            console.print(f"{result.case.name}: {text}", markup=False, soft_wrap=True)
    console.print(f"\nreport: {output_dir / 'index.html'}", markup=False, soft_wrap=True)
    style = "bold green" if exit_code(results) == 0 else "bold red"
    console.print(verdict(results), style=style, markup=False, soft_wrap=True)


def table(results: Sequence[Result]) -> Table:
    """One line a case, as wide as a terminal of 80 columns."""
    from rich import box
    from rich.table import Table

    lines = Table("case", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("torch ms", "cvperf ms", "ratio", "error"):
        lines.add_column(heading, justify="right", no_wrap=True)
    lines.add_column("same", no_wrap=True)
    for result in results:
        lines.add_row(
            result.case.title,
            _with_range(result.torch),
            _with_range(result.cvperf),
            f"{result.ratio:.2f}x",
            error_text(result.agreement.error),
            "[green]yes[/green]" if result.agreement.same else "[bold red]NO[/bold red]",
        )
    lines.caption = "median over least-most of the runs; error: largest difference / largest value"
    return lines


def ms(milliseconds: float) -> str:
    """Three significant digits: 0.123, 12.3, 4567."""
    if milliseconds <= 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(milliseconds)))
    return f"{milliseconds:,.{digits}f}"


def error_text(error: float) -> str:
    """``0``, ``2.1e-07``, or ``-`` when there was nothing to compare."""
    if math.isnan(error):
        return "-"
    return f"{error:.1e}" if error else "0"


def _facts() -> dict[str, str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return environment.collect() | {"date": now.strftime("%Y-%m-%d %H:%M UTC")}


def _with_range(timing: Timing) -> str:
    return f"{ms(timing.median)}\n[dim]{ms(timing.low)}-{ms(timing.high)}[/dim]"


def _names(results: Sequence[Result]) -> str:
    return ", ".join(result.case.name for result in results)
