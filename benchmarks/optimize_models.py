"""``cvperf.optimize`` over the models of torchvision and timm, and the page of what came out.

``python -m cvperf.benchmarks.optimize_models`` runs what has no row yet, one process a model, and
writes docs/models.md. Rows are kept in benchmarks/results/optimize_models.json as they come, so
that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from cvperf import files
from cvperf.benchmarks import zoo, zoo_page
from cvperf.benchmarks.zoo import Entry

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "optimize_models.json"
PAGE = ROOT.parent / "docs" / "models.md"
LIMIT_S = 600.0

Rows = dict[str, dict[str, Any]]
"""Of each model by its key: what zoo_measure found, or ``failed`` and why."""


def run(
    entries: Sequence[Entry],
    results: Path,
    *,
    retime: bool = False,
    again: bool = False,
    seconds: float = 1.0,
    threads: int = 2,
    int8: bool = True,
    limit_s: float = LIMIT_S,
    jobs: int = 1,
    console: Console | None = None,
) -> Rows:
    """Give every entry a row, and return all rows of the file.

    Args:
        entries: the models.
        results: the file of rows; each is written as soon as it is there.
        retime: take the times of finished rows anew, and nothing else.
        again: run models anew that have a row.
        seconds: time of each contender.
        threads: of everybody.
        int8: whether INT8 is tried too.
        limit_s: a model that takes longer is stopped, and its row says so.
        jobs: models at the same time; no times are taken then.
        console: where the progress bar goes; standard error if None.

    Raises:
        ValueError: times are to be taken of several models at once.
    """
    rows = read(results)
    waiting = [each for each in entries if _is_due(rows.get(each.key), retime, again)]
    if retime and jobs > 1:
        raise ValueError(f"models timed {jobs} at a time slow each other down: retime with one job")
    options = ["--seconds", str(seconds if jobs == 1 else 0), "--threads", str(threads)]
    options += ["--only-times"] if retime else []
    tried = {each.key: int8 and (not retime or "int8_cosine" in rows[each.key]) for each in waiting}
    console = console or Console(stderr=True)
    with _bar(console, len(waiting)) as (progress, task), ThreadPoolExecutor(jobs) as pool:
        running = {
            pool.submit(
                measured, entry, [*options, *([] if tried[entry.key] else ["--no-int8"])], limit_s
            ): entry
            for entry in waiting
        }
        for done in as_completed(running):
            entry, found = running[done], done.result()
            rows = read(results)  # another run may have written meanwhile
            if not retime:
                rows[entry.key] = found
            elif "failed" not in found:
                rows[entry.key] |= found
            else:
                console.print(f"{entry.key} was not timed: {found['failed']}")
            write(results, rows)
            progress.update(task, advance=1, description=f"{entry.key} done")
    return rows


def measured(entry: Entry, options: Sequence[str], limit_s: float) -> dict[str, Any]:
    """The row of a model by a process of its own; ``failed`` with the last words if it has none."""
    command = [sys.executable, "-m", "cvperf.benchmarks.zoo_measure", entry.library, entry.name]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit_s:.0f} seconds"}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    if done.returncode < 0:
        return {"failed": f"ended by signal {-done.returncode}"}
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"failed": lines[-1][:300], "trace": lines[-12:]}


def read(results: Path) -> Rows:
    """The rows of a file; none if there is no such file."""
    rows: Rows = json.loads(results.read_text()) if results.exists() else {}
    return rows


def write(results: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a line, in order, so that a change of one is a change of one line."""
    lines = [f"{json.dumps(key)}: {json.dumps(rows[key])}" for key in sorted(rows)]
    results.parent.mkdir(parents=True, exist_ok=True)
    files.replace(results, "{\n" + ",\n".join(lines) + "\n}\n")


def chosen(patterns: Sequence[str]) -> list[Entry]:
    """The entries whose key or name matches one of the patterns, in the patterns' order.

    Raises:
        ValueError: a pattern matches none.
    """
    every = zoo.entries()
    if not patterns:
        return every
    found: dict[str, Entry] = {}
    for pattern in patterns:
        matching = {e.key: e for e in every if _matches(e, pattern)}
        if not matching:
            raise ValueError(f"no model is called {pattern!r}; keys are as {every[0].key}")
        found |= matching
    return list(found.values())


def _matches(entry: Entry, pattern: str) -> bool:
    return fnmatchcase(entry.key, pattern) or fnmatchcase(entry.name, pattern)


def _is_due(row: Mapping[str, Any] | None, retime: bool, again: bool) -> bool:
    if retime:
        return row is not None and "failed" not in row
    return again or row is None


@contextmanager
def _bar(console: Console, total: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress, progress.add_task("", total=total)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", action="append", default=[], help="name, key or pattern")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="models at the same time, untimed")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds a model may take")
    parser.add_argument("--retime", action="store_true", help="take the times of all rows anew")
    parser.add_argument("--again", action="store_true", help="run models that have a row")
    parser.add_argument("--no-int8", dest="int8", action="store_false")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only-page", action="store_true", help="run nothing, write the page")
    options = parser.parse_args(arguments)
    try:
        entries = [] if options.only_page else chosen(options.only)
        rows = run(
            entries,
            options.results,
            retime=options.retime,
            again=options.again,
            seconds=options.seconds,
            threads=options.threads,
            int8=options.int8,
            limit_s=options.limit,
            jobs=options.jobs,
        )
    except ValueError as error:
        parser.error(str(error))
    files.replace(options.page, zoo_page.render(rows))
    failed = [entry.key for entry in entries if "failed" in rows.get(entry.key, {})]
    print(f"wrote {options.page}; {len(failed)} of {len(entries)} failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
