"""The GPU that a call is for: the one at hand, or one that is assumed where none is."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from cvperf.backends.gpu.model import H100, Architecture, architecture

# Kernels that are interpreted or emulated take long for a block: two processors stand for all.
_assumed: list[Architecture] = [replace(H100, processors=2)]


def machine(device: torch.device) -> Architecture:
    """The GPU that a launch on this device is for: its own, or the one that is assumed."""
    if device.type != "cuda" or len(_assumed) > 1:
        return _assumed[-1]
    return _at_hand(torch.cuda.current_device() if device.index is None else device.index)


@contextmanager
def assuming(one: Architecture) -> Iterator[None]:
    """Functions choose as they would on this GPU: emulated, interpreted, compiled only, tested."""
    _assumed.append(one)
    try:
        yield
    finally:
        _assumed.pop()


@functools.cache
def _at_hand(index: int) -> Architecture:
    facts: Any = torch.cuda.get_device_properties(index)
    return architecture(
        10 * facts.major + facts.minor,
        facts.multi_processor_count,
        facts.shared_memory_per_block_optin,
    )
