"""A model's way to INT8: observed first, quantised then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakSet

from torch import Tensor, fx

from cvperf.quant.equalise import equalise
from cvperf.quant.observe import Calibration, Observers, Scale
from cvperf.quant.quantise import Quantise
from cvperf.quant.trained import quantise_trained


class Rules(Protocol):
    """What ``Quantiser`` asks of a configuration."""

    @property
    def observer(self) -> str: ...
    @property
    def per_channel(self) -> bool: ...
    @property
    def most(self) -> int: ...
    def takes(self, name: str) -> bool: ...


class Quantiser:
    """Shared by all graphs of one model: their nodes have the same names.

    Attributes:
        is_observing: whether calls still belong to the calibration.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._observers = Observers(rules.observer)
        self._ranges: tuple[dict[str, Scale], dict[str, Tensor]] | None = None
        self._quantised: WeakSet[fx.GraphModule] = WeakSet()
        self.is_observing = True

    def __getstate__(self) -> dict[str, Any]:
        """Without the graphs, which copies do not have."""
        return {name: each for name, each in self.__dict__.items() if name != "_quantised"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _quantised=WeakSet())

    def observe(self, graph: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Any]:
        """The graph's answers in float; what occurs on the way is taken down."""
        return list(Calibration(graph, self._observers).run(*inputs))

    def quantise(self, graph: fx.GraphModule) -> None:
        """Put a graph's layers on bytes, once; ranges that were not observed stay float."""
        if graph not in self._quantised:
            self._quantised.add(graph)
            if quantise_trained(graph, self._rules.takes):
                return
            scales, means = self.prepare(graph)
            rules = self._rules
            Quantise(graph, scales, means, rules.takes, rules.per_channel, rules.most).run()

    def prepare(self, graph: fx.GraphModule) -> tuple[dict[str, Scale], dict[str, Tensor]]:
        """Make a graph's channels alike, and choose its ranges.

        Returns:
            What a byte of each value stands for, and [C], the mean of each of its channels.
        """
        extents = {name: seen.furthest for name, seen in self._observers.seen.items()}
        factors = equalise(graph, extents)
        if self._ranges is None:
            seen = {
                name: each.scaled(factors[name]) if name in factors else each
                for name, each in self._observers.seen.items()
            }
            means = {name: each.mean for name, each in seen.items()}
            self._ranges = self._observers.scales(factors), means
            self._observers.forget_samples()
        scales, means = self._ranges
        return dict(scales), dict(means)
