"""What the tests of the CUDA kernels share: where tensors live, and under which schedules they run.

An answer is held to the float64 reference by ``assert_close``, as those of the Triton kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvperf.backends import registry
from cvperf.backends.cuda import emulated
from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import ARCHITECTURES, family
from tests.kernels.cuda import emulation
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.triton.harness import assert_close

__all__ = ["DEVICE", "ON_GPU", "SCHEDULES", "as_on", "assert_close", "on_cuda", "to_device"]

ON_GPU = os.environ.get("CVPERF_TEST_GPU") == "1" and not emulated()
DEVICE = "cuda" if ON_GPU else "cpu"
# A GPU has its own schedule, whatever we ask for.
SCHEDULES = emulation.SCHEDULES[:1] if ON_GPU else emulation.SCHEDULES


@contextmanager
def as_on(
    capability: int, schedule: Schedule = SCHEDULES[0], processors: int = 2
) -> Iterator[None]:
    """Calls within run on CUDA, with the choices of an sm_``capability`` GPU of few processors.

    A GPU that is older than that makes its own choices.
    """
    if ON_GPU:
        major, minor = torch.cuda.get_device_capability()
        capability = min(capability, family(10 * major + minor))
    with assuming(replace(ARCHITECTURES[capability], processors=processors)):
        if ON_GPU:
            with registry.prefer("cuda"):
                yield
        else:
            with emulation.emulating(schedule, capability), registry.prefer("cuda"):
                yield


def to_device(value: Any) -> Any:
    """Tensors moved to where the kernels run, also inside lists; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(one) for one in value)
    return value


def on_cuda(
    op: Callable[..., Any],
    *args: Any,
    capability: int = 90,
    schedule: Schedule = SCHEDULES[0],
    **keywords: Any,
) -> Any:
    """``op`` through the whole path of a call, its kernels in CUDA C++; the answer on the CPU."""
    moved = {name: to_device(value) for name, value in keywords.items()}
    with as_on(capability, schedule):
        found = op(*to_device(args), **moved)
    if isinstance(found, Tensor):
        return found.cpu()
    return type(found)(one.cpu() for one in found)
