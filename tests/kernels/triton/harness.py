"""What the tests of the Triton kernels share: where tensors live, and what an answer is held to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cvperf.backends import registry
from cvperf.bench.accuracy import largest_error, tolerance

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = os.environ.get("CVPERF_TEST_GPU") == "1" and not INTERPRETED
DEVICE = "cuda" if ON_GPU else "cpu"


@contextmanager
def as_on(capability: int, processors: int = 2) -> Iterator[None]:
    """Calls within run on Triton, with the choices of an sm_``capability`` GPU of few processors.

    A GPU that is older than that makes its own choices.
    """
    from cvperf.backends.gpu.machine import assuming
    from cvperf.backends.gpu.model import ARCHITECTURES, family

    if ON_GPU:
        major, minor = torch.cuda.get_device_capability()
        capability = min(capability, family(10 * major + minor))
    with (
        assuming(replace(ARCHITECTURES[capability], processors=processors)),
        registry.prefer("triton"),
    ):
        yield


def to_device(value: Any) -> Any:
    """Tensors moved to where the kernels run, also inside lists; anything else as it is."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(one) for one in value)
    return value


def on_triton(op: Callable[..., Any], *args: Any, capability: int = 90, **keywords: Any) -> Any:
    """``op`` through the whole path of a call, its kernels in Triton; the answer on the CPU."""
    moved = {name: to_device(value) for name, value in keywords.items()}
    with as_on(capability):
        found = op(*to_device(args), **moved)
    if isinstance(found, Tensor):
        return found.cpu()
    return type(found)(one.cpu() for one in found)


def assert_close(found: Tensor, expected: Tensor, terms: int = 1, what: str = "") -> None:
    """The answer is within the one tolerance table of the float64 reference.

    Args:
        found: the kernel's.
        expected: the reference's, in float64 (integers are compared exactly).
        terms: products that are summed into one output.
        what: named if it is not.
    """
    assert found.shape == expected.shape, f"{what}: {list(found.shape)}, not {expected.shape}"
    error, allowed = largest_error(expected, found), tolerance(found.dtype, terms)
    assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e}"
