"""cvperf: fast kernels for convolutional networks.

``cvperf.ops`` has the ops and ``cvperf.nn`` layers on them; ``cvperf.use`` and ``cvperf.enable``
serve them to models you did not write; ``cvperf.optimize`` turns such a model into a plan of fused
kernels, ``cvperf.save`` and ``cvperf.load`` keep that as a file; ``cvperf.explain`` says who ran
what, and why; ``cvperf.profile`` says where time goes; ``cvperf.from_onnx`` makes a torch module of
an ONNX file; ``cvperf.keep_freed_memory`` makes steps of training faster.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch as _torch  # noqa: F401  (first, so that _C finds torch's OpenMP runtime loaded)

from cvperf import ops
from cvperf.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from cvperf import nn
    from cvperf.dropin import disable, enable, explain, use
    from cvperf.dropin.configs import Bf16Config, FusionConfig, Int8Config, WeightOnlyConfig
    from cvperf.dropin.optimize import optimize
    from cvperf.dropin.prepare_qat import prepare_qat
    from cvperf.dropin.saving import load, save
    from cvperf.dropin.sensitivity import sensitivity
    from cvperf.memory import keep_freed_memory
    from cvperf.onnx import from_onnx
    from cvperf.profiler import profile

__version__ = version("cvperf")

__all__ = [
    "ArgumentError",
    "Bf16Config",
    "FusionConfig",
    "Int8Config",
    "UnsupportedError",
    "WeightOnlyConfig",
    "__version__",
    "disable",
    "enable",
    "explain",
    "from_onnx",
    "keep_freed_memory",
    "load",
    "nn",
    "ops",
    "optimize",
    "prepare_qat",
    "profile",
    "save",
    "sensitivity",
    "use",
]

# What these modules have is imported by its first use: importing cvperf stays fast.
_MODULES = {
    "cvperf.dropin": ("disable", "enable", "explain", "use"),
    "cvperf.dropin.configs": ("Bf16Config", "FusionConfig", "Int8Config", "WeightOnlyConfig"),
    "cvperf.dropin.optimize": ("optimize",),
    "cvperf.dropin.prepare_qat": ("prepare_qat",),
    "cvperf.dropin.saving": ("load", "save"),
    "cvperf.dropin.sensitivity": ("sensitivity",),
    "cvperf.memory": ("keep_freed_memory",),
    "cvperf.onnx": ("from_onnx",),
    "cvperf.profiler": ("profile",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "nn":
        return import_module("cvperf.nn")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
