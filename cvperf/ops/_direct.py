"""Whether a call may go straight to its kernel, past torch's dispatcher.

The dispatcher, its autograd layer and the argument boxing cost 15 to 100 microseconds a call from
Python, more than a small kernel. They have something to do only when a tensor or the surroundings
ask for it: a gradient, a trace, a transform, a mode, a subclass, a profiler. ``ordinary`` says that
none of them does; then the dispatcher would run the same kernel on the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad

_KINDS = frozenset((torch.Tensor, torch.nn.Parameter))
_PLAIN = frozenset((type(None), bool, int, float, str, torch.dtype))  # most arguments
_SEQUENCES = frozenset((tuple, list))
_profiling: Callable[[], bool] | None = getattr(torch.autograd, "_profiler_enabled", None)


def ordinary(*arguments: Any) -> bool:
    """True if no tensor among the arguments, and nothing around the call, needs the dispatcher."""
    if torch.compiler.is_compiling() or _known is None or _profiling is None:
        return False
    other_keys, other_ambient = _known
    if torch._C._dispatch_tls_local_include_set().raw_repr() & other_ambient:
        return False  # a dispatch mode, a trace or a functorch transform is active
    if torch._C._len_torch_function_stack() or _profiling() or forward_ad._current_level >= 0:
        return False
    recording = torch.is_grad_enabled()
    for argument in arguments:
        kind = type(argument)
        if kind in _KINDS:
            if recording and argument.requires_grad:
                return False
            if torch._C._dispatch_keys(argument).raw_repr() & other_keys:
                return False  # fake, wrapped, quantised, sparse, a lazy negation, ...
        elif kind in _SEQUENCES:  # of numbers or of tensors
            if argument and isinstance(argument[0], torch.Tensor) and not ordinary(*argument):
                return False
        elif kind not in _PLAIN and isinstance(argument, torch.Tensor):
            return False  # a subclass
    return True


def _known_keys() -> tuple[int, int] | None:
    """Dispatch keys that do mean something: those of a tensor, those around a call.

    None in a torch that no longer has these private functions: every call takes the dispatcher
    then, and tests/ops/test_direct.py fails so that somebody notices.
    """
    try:
        key = torch._C.DispatchKey
        ambient = torch._C.DispatchKeySet(key.BackendSelect).add(key.ADInplaceOrView)
        tensors = torch._C.DispatchKeySet(key.ADInplaceOrView)
        for device in ("CPU", "CUDA"):
            for kind in ("", "Autograd", "Autocast"):  # our ops have no autocast rule
                tensors = tensors.add(getattr(key, kind + device))
        for module, name in (
            (torch._C, "_dispatch_keys"),
            (torch._C, "_dispatch_tls_local_include_set"),
            (torch._C, "_len_torch_function_stack"),
            (forward_ad, "_current_level"),
        ):
            getattr(module, name)
    except AttributeError:
        return None
    return ~tensors.raw_repr(), ~ambient.raw_repr()


_known = _known_keys()
