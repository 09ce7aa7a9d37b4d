"""Runs the cases, one after the other, with a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cvperf
from cvperf.bench.contender import Contender
from cvperf.bench.demo.case import Case, Result
from cvperf.bench.timing import Plan, measure

OVERRIDDEN = ("nms", "roi_align", "conv2d")
SAMPLE_S = 0.05  # calls shorter than this are repeated within a run


def run(cases: Sequence[Case], repeats: int) -> list[Result]:
    """Run each case; the bar moves with every load, warm-up and timed run."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    results = []
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("", total=len(cases) * steps(repeats))
        for number, case in enumerate(cases, 1):
            progress.update(bar, description=case.title)
            results.append(run_case(case, repeats, tick=lambda: progress.advance(bar)))
            line = f"[{number}/{len(cases)}] {one_line(results[-1])}"
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
    return results


def run_case(case: Case, repeats: int, tick: Callable[[], None] = lambda: None) -> Result:
    """Load one case, compare one answer of each contender, then time both in turns."""
    work = case.load()
    tick()
    original = Contender(work.torch)
    if work.cvperf is None:
        ours = Contender(work.torch, context=lambda: cvperf.use(*OVERRIDDEN))
    else:
        ours = Contender(work.cvperf)
    expected = original.once()
    tick()
    cvperf.explain(reset=True)
    answer = ours.once()
    calls = tuple(row for row in cvperf.explain(reset=True).rows if row.calls)
    tick()
    # Exactly ``repeats`` rounds: whoever asked for them knows how long the case takes.
    plan = Plan(math.inf, SAMPLE_S, min_samples=repeats, max_samples=repeats)
    torch_ms, cvperf_ms = measure((original, ours), plan, tick=tick)
    agreement = work.agree(expected, answer)
    return Result(case, torch_ms, cvperf_ms, agreement, calls, tuple(work.draw(answer)))


def steps(repeats: int) -> int:
    """Ticks of one case: its load, two warm-ups, and the timed runs."""
    return 3 + 2 * repeats


def one_line(result: Result) -> str:
    """A case's outcome in one line, for the terminal while the rest still run."""
    return (
        f"{result.case.title}: torch {result.torch.median:.2f} ms, "
        f"cvperf {result.cvperf.median:.2f} ms, {result.ratio:.2f}x, "
        f"{'same answer' if result.agreement.same else 'ANSWER DIFFERS'}"
    )
