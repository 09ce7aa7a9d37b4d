"""Several passes of the same work as one, with the profiler's own cost taken off."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from cvperf.profiler.trace import Pass

_MOST_US = 5.0
"""What recording one span costs at most; a larger difference is the machine's doing."""


def combine(passes: Sequence[Pass], wall_us: float | None) -> Pass:
    """The pass of median length, its times the medians over passes.

    Spans are matched by their place where every pass has the same ones in the same order. Where the
    passes differ (a model may branch on its data), the pass of median length stands alone.

    Args:
        passes: at least one.
        wall_us: microseconds that the work takes unprofiled; the spans' own times then sum to it.
            None where it was not run unprofiled: times are as the profiler saw them.
    """
    middle = passes[median(passes)]
    names = [span.name for span in middle.spans]
    alike = [one for one in passes if [span.name for span in one.spans] == names]
    own = [
        statistics.median(times)
        for times in zip(*([span.self_us for span in one.spans] for one in alike), strict=True)
    ]
    if wall_us is not None:
        own = _without_profiler(own, [span.children for span in middle.spans], wall_us)
    spans = [replace(span, self_us=us) for span, us in zip(middle.spans, own, strict=True)]
    return replace(middle, spans=spans)


def median(passes: Sequence[Pass]) -> int:
    """Index of the pass of median length; the shorter of two."""
    order = sorted(range(len(passes)), key=lambda index: passes[index].wall_us)
    return order[(len(order) - 1) // 2]


def _without_profiler(own: Sequence[float], children: Sequence[int], wall_us: float) -> list[float]:
    """Own times that sum to ``wall_us``.

    Recording a span happens between its start and its parent's, so the cost stands in the parent.
    What is left of the difference is spread evenly: the machine was faster or slower.
    """
    cost = min(max(sum(own) - wall_us, 0.0) / max(len(own) - 1, 1), _MOST_US)
    freed = [max(us - cost * count, 0.0) for us, count in zip(own, children, strict=True)]
    scale = wall_us / (sum(freed) or 1.0)
    return [us * scale for us in freed]


def inclusive_us(one: Pass) -> list[float]:
    """Each span's time with everything inside it."""
    total = [span.self_us for span in one.spans]
    for index in range(len(total) - 1, 0, -1):  # children stand behind their parents
        total[one.spans[index].parent] += total[index]
    return total
