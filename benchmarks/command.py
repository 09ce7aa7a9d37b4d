"""``cvperf bench SUITE``: which cases and contenders, and what is said at the end."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from cvperf.bench.peers import ours, select
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import Measurement

_NEEDS = ("rich", "yaml", "torchvision")


def run(
    suite: str,
    out: Path,
    device: str = "cpu",
    ops: Sequence[str] = (),
    case: str = "*",
    peers: str = "auto",
    quick: bool = False,
    threads: int = 0,
    seconds: float | None = None,
    one_process: bool = False,
) -> int:
    """Measure a suite and print its summary.

    Returns:
        Exit code: 0, or 1 if an answer of ours was wrong or a call of ours failed.

    Raises:
        ImportError: a package of the ``bench`` extra is missing.
        ValueError: no such device, op, case or peer; the message lists what there is.
    """
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise ImportError(f"benchmarks need {', '.join(missing)}: pip install 'cvperf[bench]'")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch can use; there is none")
    # torch.profiler's log of its own starts and stops would stand between the lines printed here.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    if threads:
        torch.set_num_threads(threads)
    from cvperf.bench import session, terminal

    chosen = None if peers == "auto" else [name.strip() for name in peers.split(",")]
    contenders = (*ours.contenders(device), *select(chosen, device))
    cases = _cases(suite, device, ops, case, quick)
    rows = session.run(
        cases, contenders, out, device=device, seconds=seconds, one_process=one_process
    )
    terminal.show(rows, out)
    return 1 if any(_our_fault(row) for row in rows) else 0


def _cases(
    suite: str, device: str, ops: Sequence[str], case: str, quick: bool
) -> Mapping[str, Sequence[Shape]]:
    from cvperf.benchmarks.suites import SUITES

    if suite == "peaks":
        return {}
    names = list(SUITES) if suite == "all" else [suite]
    every = {name: SUITES[name](quick, device) for name in names}
    known = sorted({shape.subject for shapes in every.values() for shape in shapes})
    if unknown := [op for op in ops if op not in known]:
        raise ValueError(f"{suite} has no op {', '.join(unknown)}; it has: {', '.join(known)}")
    chosen = {
        name: [
            shape
            for shape in shapes
            if (not ops or shape.subject in ops) and fnmatchcase(shape.name, case)
        ]
        for name, shapes in every.items()
    }
    if not any(chosen.values()):
        names = [shape.name for shapes in every.values() for shape in shapes]
        near = difflib.get_close_matches(case, names, 5, 0.3)
        raise ValueError(f"no case is called {case!r}; near it: {'; '.join(near) or 'none'}")
    return chosen


def _our_fault(row: Measurement) -> bool:
    return row.ours and row.status in ("wrong", "failed")
