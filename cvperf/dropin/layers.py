"""Which layers of a model a configuration is meant for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from cvperf.dropin.configs import FusionConfig, Int8Config


@dataclass(frozen=True)
class Layers:
    """Which layers of a part of a model its configuration is meant for.

    Attributes:
        config: of the whole model.
        part: the part's name within the model; empty for the whole.
        left_out: names within the model of the modules that ``filter_fn`` said no to.
    """

    config: FusionConfig
    part: str
    left_out: frozenset[str]

    @property
    def observer(self) -> str:
        assert isinstance(self.config, Int8Config)
        return self.config.observer

    @property
    def per_channel(self) -> bool:
        assert isinstance(self.config, Int8Config)
        return self.config.per_channel

    @property
    def most(self) -> int:
        assert isinstance(self.config, Int8Config)
        return self.config.most

    def takes(self, name: str) -> bool:
        """Whether it is meant for the module of this name within the part."""
        whole = f"{self.part}.{name}".strip(".")
        return whole not in self.left_out and self.config.takes(whole)


def named_out(model: nn.Module, filter_fn: Callable[[nn.Module, str], bool]) -> frozenset[str]:
    """The names within the model of the modules that ``filter_fn`` says no to."""
    modules = model.named_modules(remove_duplicate=False)
    return frozenset(name for name, module in modules if not filter_fn(module, name))
