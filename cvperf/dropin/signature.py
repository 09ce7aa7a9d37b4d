"""What a decision of the drop-in depends on, as a key: a network repeats its calls in each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends import tuning
from cvperf.dropin import crossover
from cvperf.dropin.overrides import is_lazy_copy


def signature(args: Sequence[Any]) -> tuple[Any, ...] | None:
    """Two calls of one op with the same are decided alike; None: decide this one by itself.

    Args:
        args: tensors, whose values do not count; numbers, None, and lists of numbers.
    """
    if tuning.enabled():
        return None  # which measures, and remembers by itself
    key: list[Any] = [_C.isa(), torch.get_num_threads(), crossover.ignoring()]
    for value in args:
        if isinstance(value, Tensor):
            if value.layout is not torch.strided:
                return None
            key += (value.shape, value.stride(), value.dtype, value.device, is_lazy_copy(value))
        else:
            key.append(tuple(value) if isinstance(value, list) else value)
    return tuple(key)
