"""Products with weights of 8 or 4 bits: torch's, which reads rows without gaps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from cvperf.engine.lower import Lower, lowers
from cvperf.engine.steps import TorchStep, Value

_ATEN = torch.ops.aten
_INT8, _INT4 = _ATEN._weight_int8pack_mm.default, _ATEN._weight_int4pack_mm_for_cpu.default


@lowers(_INT8)
def int8(lower: Lower, rows: Value, weight: Value, scale: Value) -> Any:
    return _counted(lower, _INT8, lower.contiguous(rows), weight, scale)


@lowers(_INT4)
def int4(lower: Lower, rows: Value, weight: Value, group_size: int, scale: Value) -> Any:
    return _counted(lower, _INT4, lower.contiguous(rows), weight, group_size, scale)


def _counted(lower: Lower, target: Any, rows: Value, *args: Any) -> Any:
    """As a step of torch's, whose products torch itself does not count."""
    result = lower.torch(target, (rows, *args), {})
    step = lower.program.steps[-1]
    assert isinstance(step, TorchStep)
    work = 2 * math.prod(result.shape) * rows.shape[1]
    lower.program.steps[-1] = replace(step, work=work)
    return result
