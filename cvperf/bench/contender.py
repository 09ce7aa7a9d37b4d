"""Someone who can do a problem: a callable to time, and how to read its answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


class Unsupported(Exception):  # noqa: N818  (an answer, not an error)
    """A contender does not offer this call; the message says what it lacks."""


def as_it_is(answer: Any) -> Any:
    """The answer is a tensor already."""
    return answer


@dataclass(frozen=True)
class Contender:
    """A callable that does the work once, ready: compiled, packed, inputs in its own types."""

    run: Callable[[], Any]
    """Timed. Takes nothing, and answers in the contender's own type."""
    answer: Callable[[Any], Any] = as_it_is
    """Not timed: ``run``'s result as a torch tensor of the problem's answer."""
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around a group of runs; entering and leaving is not timed."""
    layout: str | None = None
    """The layout it was given, where that is not the shape's."""
    note: str = ""
    """What a reader must know, such as what is outside the timed part."""

    def once(self) -> Any:
        """The answer of one call."""
        with self.context():
            return self.answer(self.run())
