"""The calls that stand for everything that ships: what is compiled and checked without a GPU.

Each op has a file ``shipped_<op>.py`` beside this one, whose ``calls()`` yields calls on ``meta``
tensors; together they launch every shipped kernel.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from cvperf.backends.gpu.shipped import Call

OPS = (
    *("conv2d", "int8_gemm", "hopper", "elementwise"),
    *("nms", "roi_align", "roi_pool", "paste_masks"),
)
"""The ops whose ``shipped_<op>.py`` there is, and what ships beside them for sm_90a."""


def calls() -> Iterator[Call]:
    """Every call of every op."""
    for op in OPS:
        yield from importlib.import_module(f"cvperf.backends.cuda.shipped_{op}").calls()
