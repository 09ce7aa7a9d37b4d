"""The table of (op, device, dtype) -> the function that runs it, and why a call cannot be run.

Each backend file registers its functions here; ``select`` picks one and remembers the pick. Where
several can run a call on a GPU, ``gpu/choice.py`` chooses, and ``explain_choice`` says why. A call
that no backend can serve raises an error that says who was asked and what would make it work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from cvperf.errors import UnsupportedError

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

ORIGINAL = "original"
"""torch's or torchvision's own kernel, where it stands among our backends."""

UNMEASURED = "by default order, not measured"
"""Why, where several could run a call and no measurement says which is the fastest."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _always() -> str | None:
    return None


@dataclass(frozen=True)
class Choice:
    """Who runs a call.

    Attributes:
        backend: its name in the registry.
        reason: why that one.
    """

    backend: str
    reason: str


@dataclass(frozen=True)
class Backend:
    """One way to run one op.

    Attributes:
        op: the op's name, such as ``"roi_align"``.
        name: the backend's name, such as ``"cpu"``; the same for all of its ops.
        device: the torch device type whose tensors it takes.
        dtypes: dtypes of the op's first tensor that it takes.
        layouts: memory layouts that it takes without a copy.
        function: called with the op's arguments.
        unavailable: returns None, or why this machine cannot run it, with the command that helps.
        automatic: whether ``select`` may pick it unasked (the reference is only used by name).
        choose: of several backends in one: which of them runs these arguments, and why.
    """

    op: str
    name: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    layouts: tuple[str, ...]
    function: Callable[..., Any]
    unavailable: Callable[[], str | None] = _always
    automatic: bool = True
    choose: Callable[..., Choice] | None = None


Arbiter = Callable[[tuple[Backend, ...]], Backend]
"""Takes those that can run an op, and gives one that hands each call to the best of them."""

_backends: list[Backend] = []
_arbiters: dict[str, Arbiter] = {}
_forced: list[str] = []


def register(
    op: str,
    name: str,
    device: str,
    dtypes: tuple[torch.dtype, ...],
    *,
    layouts: tuple[str, ...] = ("contiguous", "channels_last"),
    unavailable: Callable[[], str | None] = _always,
    automatic: bool = True,
) -> Callable[[_Function], _Function]:
    """Decorator: the function runs ``op`` on ``device`` for ``dtypes``."""

    def add(function: _Function) -> _Function:
        _backends.append(
            Backend(op, name, device, dtypes, layouts, function, unavailable, automatic)
        )
        _forget()
        return function

    return add


def arbitrate(device: str, arbiter: Arbiter) -> None:
    """Let ``arbiter`` choose, call by call, among the backends that take a device's tensors."""
    _arbiters[device] = arbiter
    _forget()


def _forget() -> None:
    _choose.cache_clear()
    _choose_on.cache_clear()


def backends() -> tuple[Backend, ...]:
    """Every registered backend, in order of preference."""
    return tuple(_backends)


@contextmanager
def prefer(name: str) -> Iterator[None]:
    """Run every cvperf op in this block on the backend called ``name``.

    Raises:
        UnsupportedError: at the call, if that backend does not serve it. Nothing falls back.
    """
    known = sorted({backend.name for backend in _backends})
    if name not in known:
        raise UnsupportedError(f"no backend is called {name!r}; known: {', '.join(known)}")
    _forced.append(name)
    try:
        yield
    finally:
        _forced.remove(name)


def preferred() -> str | None:
    """The backend that an open ``prefer`` block names; None outside."""
    return _forced[-1] if _forced else None


def layout_of(tensor: torch.Tensor) -> str:
    """``"channels_last"`` for [N, C, H, W] stored as [N, H, W, C]; else ``"contiguous"``."""
    if tensor.dim() != 4 or tensor.is_contiguous():
        return "contiguous"
    channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
    return "channels_last" if channels_last else "contiguous"


def convolution_format(*tensors: torch.Tensor) -> torch.memory_format:
    """torch's rule for a convolution's output: channels-last if its image or its weight is.

    A tensor that is both (one channel, or one pixel) counts by its strides, as
    ``Tensor::suggest_memory_format`` counts it. An empty batch is always contiguous.
    """
    empty = any(tensor.shape[0] == 0 for tensor in tensors)
    if not empty and any(_suggests_channels_last(tensor) for tensor in tensors):
        return torch.channels_last
    return torch.contiguous_format


def _suggests_channels_last(tensor: torch.Tensor) -> bool:
    sizes, strides = tensor.shape, tensor.stride()
    if tensor.dim() != 4 or strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if sizes[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:
            return False  # the strides tell nothing: one channel and one pixel
        least = strides[axis] * max(sizes[axis], 1)
    return True


def select(op: str, device: str, dtype: torch.dtype, layout: str = "contiguous") -> Backend:
    """The backend that runs ``op`` for tensors of this device type, dtype and layout.

    Raises:
        UnsupportedError: none can; the message lists who was asked and why each refused.
    """
    return _choose(op, device, dtype, layout, preferred())


def select_for(op: str, tensor: torch.Tensor) -> Backend:
    """The backend that runs ``op`` when ``tensor`` is its first argument; errors as ``select``."""
    return _choose_on(op, tensor.device, tensor.dtype, layout_of(tensor), preferred())


def explain_choice(op: str, *args: Any) -> Choice:
    """Who would run this call of a cvperf op, and why; nothing runs.

    Args:
        op: its name, such as ``"nms"``.
        args: as its schema has them: the first a tensor, or a list of them.

    Raises:
        UnsupportedError: as the call would.
    """
    first = args[0] if isinstance(args[0], torch.Tensor) else args[0][0]
    backend = select_for(op, first)
    if backend.choose is not None:
        return backend.choose(*args)
    if preferred() is not None:
        return Choice(backend.name, "preferred by name: registry.prefer()")
    return Choice(backend.name, f"the one that takes {first.device.type} tensors")


@functools.cache
def _choose_on(
    op: str, device: torch.device, dtype: torch.dtype, layout: str, forced: str | None
) -> Backend:
    # Keyed by the device itself: its type is a string that torch makes anew each time.
    return _choose(op, device.type, dtype, layout, forced)


@functools.cache
def _choose(op: str, device: str, dtype: torch.dtype, layout: str, forced: str | None) -> Backend:
    able, refusals = [], []
    for backend in _backends:
        if backend.op != op:
            continue
        refusal = _refusal(backend, device, dtype, layout, forced)
        if refusal is None:
            able.append(backend)
        else:
            refusals.append(f"{backend.name}: {refusal}")
    if able:
        arbiter = _arbiters.get(device) if forced is None else None
        return able[0] if arbiter is None else arbiter(tuple(able))
    call = f"{op} on {device} with {str(dtype).removeprefix('torch.')} ({layout})"
    reasons = "; ".join(refusals) or "none is registered for this op"
    raise UnsupportedError(f"no backend serves {call}. Asked: {reasons}")


def _refusal(
    backend: Backend, device: str, dtype: torch.dtype, layout: str, forced: str | None
) -> str | None:
    if forced is not None and backend.name != forced:
        return f"not asked, since {forced!r} is preferred"
    if forced is None and not backend.automatic:
        return "only runs by name, through cvperf.backends.registry.prefer()"
    if backend.device != device:
        return f"takes {backend.device} tensors; move the inputs with .to({backend.device!r})"
    if dtype not in backend.dtypes:
        names = ", ".join(str(known).removeprefix("torch.") for known in backend.dtypes)
        return f"takes {names}; convert the inputs with .to()"
    if layout not in backend.layouts:
        return f"takes layouts {', '.join(backend.layouts)}"
    return backend.unavailable()
