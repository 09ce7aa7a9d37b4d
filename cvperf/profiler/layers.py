"""Which layer runs: a named range around every module's forward, in the trace and as NVTX."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.autograd.profiler import record_function
from torch.nn.modules import module as hooks


class Layers:
    """Names modules by their path from the outermost one called: ``ResNet.layer1.0.conv1``.

    Two models of one class are told apart: the second is ``ResNet#2``.
    """

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._labels: dict[str, int] = {}
        self.classes: dict[str, str] = {}
        """Layer's name -> class of its module."""

    def name(self, module: nn.Module, caller: str | None) -> str:
        """The name of ``module``, which ``caller`` (None for nobody) has called."""
        known = self._names.get(module)
        if known is not None:
            return known
        kind = type(module).__name__
        self._adopt(module, f"{caller}.{kind}" if caller else kind)
        return self._names[module]

    def _adopt(self, root: nn.Module, label: str) -> None:
        count = self._labels[label] = self._labels.get(label, 0) + 1
        if count > 1:
            label = f"{label}#{count}"
        for path, module in root.named_modules():
            name = f"{label}.{path}" if path else label
            self.classes[self._names.setdefault(module, name)] = type(module).__name__


@contextmanager
def ranges(layers: Layers) -> Iterator[None]:
    """Put a range around every module's forward, on every thread, while the block is open."""
    nvtx = torch.cuda.is_available()
    local = threading.local()

    def enter(module: nn.Module, args: Any) -> None:
        stack = local.__dict__.setdefault("stack", [])
        name = layers.name(module, stack[-1][1] if stack else None)
        annotation = record_function(name)
        annotation.__enter__()
        stack.append((module, name, annotation))
        if nvtx:
            torch.cuda.nvtx.range_push(name)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        stack = local.__dict__.get("stack", [])
        if not any(entry[0] is module for entry in stack):
            return  # its forward began before the block
        closed = None
        while closed is not module:  # above it: layers whose forward raised
            closed, _, annotation = stack.pop()
            annotation.__exit__(None, None, None)
            if nvtx:
                torch.cuda.nvtx.range_pop()

    # always_call: a forward that raises closes its range too.
    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
