"""How the configurations of CUDA kernels are measured."""

from __future__ import annotations

import functools

from cvperf.backends.cuda import compiler, emulated, launch
from cvperf.backends.gpu import configs
from cvperf.errors import LaunchError


def _runs() -> bool:
    return not emulated() and not launch.diverted()


def _too_large() -> tuple[type[Exception], ...]:
    return (LaunchError,)


config_for = functools.partial(
    configs.config_for, configs.Backend("cuda", _runs, compiler.compiler, _too_large)
)
"""The configuration for one call: ``cvperf.backends.gpu.configs.config_for``."""
