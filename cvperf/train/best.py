"""The best epoch so far, and whether it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cvperf.errors import ArgumentError
from cvperf.train.recipe import Watch


class Best:
    """Follows one validation figure.

    Attributes:
        value: the best so far; None before the first.
        since: epochs without a better one.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.value: float | None = None
        self.since = 0

    def seen(self, figures: Mapping[str, float]) -> bool:
        """Take an epoch's figures; whether they are the best so far. NaN never is.

        Raises:
            ArgumentError: the figure that is watched is not among them.
        """
        name = self._watch.figure
        if name not in figures:
            raise ArgumentError(f"watch.figure {name!r} is none of {', '.join(sorted(figures))}")
        value = figures[name]
        better = not math.isnan(value) and (self.value is None or self._gain(value) > 0)
        if better:
            self.value, self.since = value, 0
        else:
            self.since += 1
        return better

    def _gain(self, value: float) -> float:
        assert self.value is not None
        gain = value - self.value if self._watch.highest else self.value - value
        return gain - self._watch.least

    @property
    def hopeless(self) -> bool:
        """Whether ``watch.patience`` epochs have brought nothing better."""
        return 0 < self._watch.patience <= self.since

    def state_dict(self) -> dict[str, float | int | None]:
        """For a checkpoint."""
        return {"value": self.value, "since": self.since}

    def load_state_dict(self, state: Mapping[str, float | int | None]) -> None:
        """From a checkpoint."""
        self.value, self.since = state["value"], int(state["since"] or 0)
