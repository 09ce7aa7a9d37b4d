"""The profile in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from cvperf.profiler.check import Check
from cvperf.profiler.ncu import Counters
from cvperf.profiler.sections import Section, ms, percent, sections
from cvperf.profiler.session import Profile

_ROWS = 12


def show(profile: Profile, console: Console) -> None:
    """Print every section, its tables cut to a screenful."""
    for section in sections(profile, _ROWS):
        console.print(f"\n[bold]{section.title}[/bold]")
        for sentence in section.text:
            console.print(sentence, markup=False)
        if section.rows:
            console.print(_table(section))
        for sentence in section.after:
            console.print(sentence, markup=False)
        if section.code:
            console.print(f"\n{section.code}", style="green", markup=False)


def show_files(page: Path, console: Console) -> None:
    """Say what was written, and how the trace is opened."""
    console.print(f"\npage: {page}", markup=False, soft_wrap=True)
    console.print(
        f"trace: {page.parent / 'trace.json.gz'} (open it at https://ui.perfetto.dev, which reads "
        "it in your browser, or in chrome://tracing)",
        markup=False,
        soft_wrap=True,
    )


def show_check(check: Check, console: Console) -> None:
    """Say what was predicted and what was gained."""
    console.print(
        f"\npredicted {ms(check.predicted_ms)} ms ({percent(check.predicted_share)}), gained "
        f"{ms(check.gained_ms)} ms ({percent(check.gained_share)}): {ms(check.torch_ms)} ms "
        f"without cvperf.use and {ms(check.cvperf_ms)} ms with it, in turns. The prediction is "
        f"{check.error:.0%} off.",
        markup=False,
    )


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in section.headings:
        number = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for row in section.rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    return table


def show_counters(launches: Sequence[Counters], console: Console) -> None:
    """Print the hardware counters of each launch."""
    columns = list(dict.fromkeys(name for launch in launches for name in launch.values))
    rows = [
        [launch.kernel[:60], *(launch.values.get(name, "-") for name in columns)]
        for launch in launches
    ]
    console.print("\n[bold]hardware counters[/bold]")
    console.print(_table(Section("", ("kernel", *(f">{name}" for name in columns)), rows)))
