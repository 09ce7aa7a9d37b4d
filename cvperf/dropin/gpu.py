"""Whether an overridden call on a GPU is served: by the crossovers that GPUs have measured.

What reads them is imported by the first use on a machine with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvperf.backends.registry import ORIGINAL, Choice, explain_choice
from cvperf.dropin import crossover
from cvperf.errors import UnsupportedError

Calls = tuple[tuple[str, tuple[Any, ...]], ...]
"""Calls of our ops: (op, the op's arguments)."""


def measured(ops: Sequence[str]) -> bool:
    """Whether any of these ops may be served on a GPU; else the originals run whatever comes."""
    from cvperf.backends.gpu import choice

    return crossover.ignoring() or any(choice.measured(op) for op in ops)


def choose(calls: Calls) -> Choice:
    """Who runs a call of torch's that comes down to these calls of ours.

    The registry says which of our backends would run each; that one stands against the original.
    The original runs it unless ours wins them all.
    """
    from cvperf.backends.gpu import choice

    ours = []
    for op, args in calls:
        try:
            choice_of_ours = explain_choice(op, *args)
        except UnsupportedError as error:
            return Choice(ORIGINAL, str(error))
        if not crossover.ignoring():
            choice_of_ours = choice.against_original(op, choice_of_ours.backend, args)
        if choice_of_ours.backend == ORIGINAL:
            return choice_of_ours
        ours.append(choice_of_ours)
    if not ours:
        return Choice(ORIGINAL, "nothing that a kernel of ours computes is wanted")
    names = dict.fromkeys(each.backend for each in ours)
    reasons = dict.fromkeys(each.reason for each in ours)
    return Choice(" and ".join(names), "; ".join(reasons))
