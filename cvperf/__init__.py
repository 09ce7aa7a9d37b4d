"""cvperf: fast kernels for convolutional networks.

``cvperf.ops`` has the ops and ``cvperf.nn`` layers on them; ``cvperf.use`` and ``cvperf.enable``
serve them to models you did not write; ``cvperf.optimize`` turns such a model into a plan of fused
kernels, ``cvperf.save`` and ``cvperf.load`` keep that as a file; ``cvperf.explain`` says who ran
what, and why; ``cvperf.profile`` says where time goes; ``cvperf.from_onnx`` makes a torch module of
an ONNX file.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

import torch as _torch  # noqa: F401  (first, so that _C finds torch's OpenMP runtime loaded)

from cvperf import ops
from cvperf.dropin import disable, enable, explain, use
from cvperf.errors import ArgumentError, UnsupportedError

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


def __getattr__(name: str) -> Any:
    """These are imported by their first use: importing cvperf stays fast."""
    if name in ("optimize", "FusionConfig", "Bf16Config", "Int8Config", "WeightOnlyConfig"):
        from cvperf.dropin import optimize

        return getattr(optimize, name)
    if name == "sensitivity":
        from cvperf.dropin.sensitivity import sensitivity

        return sensitivity
    if name in ("save", "load"):
        from cvperf.dropin import saving

        return getattr(saving, name)
    if name == "prepare_qat":
        from cvperf.dropin.prepare_qat import prepare_qat

        return prepare_qat
    if name == "profile":
        from cvperf.profiler import profile

        return profile
    if name == "from_onnx":
        from cvperf.onnx import from_onnx

        return from_onnx
    if name == "nn":
        return import_module("cvperf.nn")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
