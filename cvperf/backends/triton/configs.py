"""How Triton's configurations are measured."""

from __future__ import annotations

import functools
from importlib.metadata import version

from cvperf.backends.gpu import configs
from cvperf.backends.triton import interpreted


def _runs() -> bool:
    from cvperf.backends.triton import launch

    return not interpreted() and not launch.diverted()


def _compiler() -> str:
    return f"triton {version('triton')}"


def _too_large() -> tuple[type[Exception], ...]:
    from triton.runtime.errors import OutOfResources

    return (OutOfResources,)


config_for = functools.partial(
    configs.config_for, configs.Backend("triton", _runs, _compiler, _too_large)
)
"""The configuration for one call: ``cvperf.backends.gpu.configs.config_for``."""
