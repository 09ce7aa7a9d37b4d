"""``cvperf report``: results files as one HTML page that needs nothing else, and as Markdown."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvperf import files
from cvperf.bench.report.regression import Change
from cvperf.bench.report.summary import Counts

__all__ = ["Outcome", "write"]


@dataclass(frozen=True)
class Outcome:
    """What was written, and what the command says of it."""

    html: Path
    markdown: Path
    headline: str
    counts: Counts
    changes: tuple[Change, ...] = ()
    """Against the baseline, the worst first; empty without one."""
    warnings: tuple[str, ...] = ()
    """Why the baseline may not be comparable."""

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What ``--fail-on-regression`` fails for: slower beyond noise, or no time any more."""
        return tuple(change for change in self.changes if change.failed)


def write(results: Sequence[Path], output: Path, against: Path | None = None) -> Outcome:
    """Write ``index.html`` and ``report.md`` into ``output``.

    Each file is written aside and then renamed: a run that is killed leaves what was there before.

    Args:
        results: JSON Lines files, or folders of them.
        output: made when missing.
        against: a file or folder to compare with.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
        FileNotFoundError: there is no such results file.
        cvperf.bench.results.ResultsError: a file is not in the schema or holds no row.
        ValueError: the baseline shares no row with the results.
    """
    _require("jinja2", "matplotlib")
    from cvperf.bench.report import content, page, runs

    current = runs.load(results)
    baseline = content.against(current, runs.load([against])) if against else None
    found = content.Content(current, tuple(path.name for path in results), baseline)
    pages = {"index.html": page.html(found), "report.md": page.markdown(found)}
    output.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        files.replace(output / name, text)
    return Outcome(
        output / "index.html",
        output / "report.md",
        page.headline(found),
        found.counts,
        baseline.changes if baseline else (),
        baseline.warnings if baseline else (),
    )


def _require(*modules: str) -> None:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise ImportError(f"the report needs {' and '.join(absent)}: pip install 'cvperf[report]'")
