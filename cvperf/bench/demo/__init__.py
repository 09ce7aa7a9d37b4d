"""``cvperf bench demo``: real models on real photos, with and without cvperf, and a report."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_demo"]

_NEEDS = ("torchvision", "PIL", "rich", "jinja2", "requests", "tqdm")


def run_demo(
    output_dir: Path = Path("report"), repeats: int = 3, only: Sequence[str] | None = None
) -> int:
    """Run every case with and without ``cvperf.use``, print a table and write a report.

    Args:
        output_dir: folder for ``index.html`` and ``demo.jsonl``; made when missing.
        repeats: timed runs of each case with and without, in turns, after one warm-up each.
        only: names of the cases to run; all of them for ``None`` or an empty list.

    Returns:
        Exit code: 0 when every answer with cvperf is the one without, 1 when one differs.

    Raises:
        ImportError: a package of the ``demo`` extra is missing.
        ValueError: ``repeats`` is below 1 or a name in ``only`` is not that of a case.
        cvperf.data.packages.PackageError: photos or weights could not be fetched.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise ImportError(f"the demo needs {', '.join(missing)}: pip install 'cvperf[demo]'")
    from cvperf.bench.demo import cases, report, runner

    chosen = cases.select(only or None)
    results = runner.run(chosen, repeats)
    report.write(output_dir, results, repeats, complete=len(chosen) == len(cases.CASES))
    report.show(output_dir, results)
    return report.exit_code(results)
