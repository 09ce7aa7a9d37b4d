"""Turning overrides on and off in torch's dispatcher.

An override is a kernel registered above the original at a device key. Code that imported the
function long ago, scripted functions and exported models all pass through the dispatcher, so all
are served; removing the registration uncovers the original, untouched.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
from functools import partial
from types import CodeType
from typing import Any

import torch

from cvperf.backends import tuning
from cvperf.backends.registry import ORIGINAL
from cvperf.dropin import gpu, ledger
from cvperf.dropin.overrides import INVALID, NAMES, OVERRIDES, Override
from cvperf.dropin.signature import signature
from cvperf.errors import ArgumentError

_lock = threading.RLock()
_holders: dict[str, int] = dict.fromkeys(NAMES, 0)  # how many use() blocks and enable() hold a name
_libraries: dict[str, list[torch.library.Library]] = {}
# Kernels last installed, kept after they are removed: a thread may have looked one up and wait for
# the interpreter's lock to run it. The dispatcher alone would free it under that thread.
_kept: deque[object] = deque(maxlen=4096)
_enabled: set[str] = set()
_local = threading.local()
_MOST_SIGNATURES = 4096  # of an op's calls that are remembered


class use(ContextDecorator):  # noqa: N801 (a block, as torch.no_grad)
    """Serve torch's and torchvision's ops by cvperf inside this block.

    The override holds for the whole process while the block is open (the dispatcher has one table),
    gradients included. Calls that cvperf cannot serve, or does not run faster, go to the original;
    :func:`cvperf.explain` lists both. Leaving the block restores the originals. Blocks nest, and
    one object can be entered again, also while it is open.

    Args:
        names: any of ``"nms"``, ``"roi_align"``, ``"roi_pool"``, ``"conv2d"``; none means all.

    Raises:
        ArgumentError: a name is unknown.
        ImportError: torchvision is needed and not installed; raised on entry.

    Example:
        >>> with cvperf.use("nms", "roi_align", "conv2d"):
        ...     detections = model(images)
        >>> print(cvperf.explain())
    """

    def __init__(self, *names: str) -> None:
        self._names = _chosen(names)

    def __enter__(self) -> None:
        _acquire(self._names)

    def __exit__(self, *exception: object) -> None:
        _release(self._names)


def enable(*names: str) -> None:
    """Serve torch's and torchvision's ops by cvperf from now on, until :func:`disable`.

    Args:
        names: as for :func:`use`; all if none is given. Names already enabled stay so.
    """
    with _lock:
        new = [name for name in _chosen(names) if name not in _enabled]
        _acquire(new)
        _enabled.update(new)


def disable(*names: str) -> None:
    """Undo :func:`enable`: the originals run again. Open :func:`use` blocks keep their overrides.

    Args:
        names: which to undo; all if none is given. Names that are not enabled are ignored.
    """
    with _lock:
        gone = [name for name in _chosen(names) if name in _enabled]
        _enabled.difference_update(gone)
        _release(gone)


def _chosen(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ArgumentError(
            f"unknown op {unknown[0]!r}; cvperf overrides {', '.join(map(repr, NAMES))}"
        )
    return list(dict.fromkeys(names or NAMES))


def _acquire(names: Sequence[str]) -> None:
    with _lock:
        if any(override.needs_torchvision for name in names for override in OVERRIDES[name]):
            _import_torchvision()
        for name in names:
            if not _holders[name]:
                _libraries[name] = [
                    library for override in OVERRIDES[name] for library in _open(override)
                ]
            _holders[name] += 1


def _release(names: Sequence[str]) -> None:
    with _lock:
        for name in names:
            _holders[name] -= 1
            if _holders[name]:
                continue
            for library in _libraries.pop(name):
                library._destroy()
            for override in OVERRIDES[name]:
                ledger.closed(override.target)


def _import_torchvision() -> None:
    try:
        import torchvision  # noqa: F401  (defines the ops that are overridden)
    except ImportError as error:
        raise ImportError(
            "overriding torchvision's ops needs torchvision: pip install 'cvperf[models]', "
            'or name only the ops of torch: cvperf.use("conv2d")'
        ) from error


def _open(override: Override) -> list[torch.library.Library]:
    """Override an op on the CPU, and on a GPU that it can run on.

    Not on a GPU while none has measured it: each call would be looked at only to be handed on.
    """
    known = torch._C._dispatch_has_computed_kernel_for_dispatch_key(override.target, "CUDA")
    on_gpu = known and torch.cuda.is_available()
    served = on_gpu and gpu.measured(override.ops)
    ledger.opened(override.target, passed_by=on_gpu and not served)
    keys = ["CPU", "CUDA"] if served else ["CPU"]
    return [_install(override, key) for key in keys]


def _install(override: Override, key: str) -> torch.library.Library:
    namespace, op = override.target.split("::")
    original = torch.library.get_kernel(override.target, key)
    shorter, more = original, ()
    if override.forwards_to is not None and key == "CPU":
        target, more = override.forwards_to
        shorter = torch.library.get_kernel(target, key)
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    decide = _decide_on_gpu if key == "CUDA" else _decide_on_cpu
    handed_on: dict[tuple[Any, ...], tuple[str, int]] = {}  # signature -> why, and FLOP

    def run(kernel: Any, args: tuple[Any, ...]) -> Any:
        # An original may call other overridden ops: leave those.
        before = getattr(_local, "in_original", False)
        _local.in_original = True
        try:
            return kernel.call_boxed(keys, *args)
        finally:
            _local.in_original = before

    def run_original(*args: Any) -> Any:
        return run(shorter, args + more)

    def call(*args: Any) -> Any:
        if getattr(_local, "in_original", False):
            return original.call_boxed(keys, *args)
        if torch._C._get_tracing_state() is not None:
            # aten::convolution is not recorded itself, but by what its original calls.
            ledger.record(override.target, ORIGINAL, "torch.jit.trace is recording")
            return run(original, args)
        # A caller in C++ (a scripted model) leaves modes on, such as a default device, and
        # subclasses active: our functions are to see neither, as the original does not.
        with torch._C.DisableTorchFunction():
            kind = signature(args) if override.by_shape and key == "CPU" else None
            noted = None if kind is None else handed_on.get(kind)
            if noted is None:
                refusal = override.unfit(*args)
                if refusal is None:
                    who, reason, ours = decide(override, run_original, args)
                    if ours is not None:
                        ledger.record(override.target, who, reason, override.flop(*args))
                        return ours()
                    if key == "CPU" and (parts := override.split(*args)):
                        return _joined([call(*part) for part in parts])
                    refusal = reason
                noted = refusal, 0 if refusal == INVALID else override.flop(*args)
                if kind is not None:
                    if len(handed_on) == _MOST_SIGNATURES:
                        handed_on.clear()
                    handed_on[kind] = noted
        ledger.record(override.target, ORIGINAL, *noted)
        return run_original(*args)

    _keep_from_dynamo(call.__code__)
    library = torch.library.Library(namespace, "IMPL")
    library.impl(op, call, key, allow_override=True)
    _kept.append(torch.library.get_kernel(override.target, key))
    return library


def _joined(answers: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Of each entry the one that some call gave."""
    return tuple(
        next((value for value in values if value is not None), None)
        for values in zip(*answers, strict=True)
    )


_Decision = tuple[str, str, Callable[[], Any] | None]
"""Who runs a call, why, and what runs it; None for the original."""


def _decide_on_cpu(
    override: Override, original: Callable[..., Any], args: tuple[Any, ...]
) -> _Decision:
    if override.contenders is not None and tuning.enabled():
        kind, ours = override.contenders(*args)
        choice = tuning.choose(kind, {ORIGINAL: partial(original, *args), **ours})
        return f"cvperf.cpu {choice.name}", str(choice), ours.get(choice.name)
    refusal = override.slower(*args)
    if refusal is None:
        return "cvperf.cpu", override.why, partial(override.serve, *args)
    return ORIGINAL, refusal, None


def _decide_on_gpu(
    override: Override, original: Callable[..., Any], args: tuple[Any, ...]
) -> _Decision:
    choice = gpu.choose(override.calls(*args))
    if choice.backend == ORIGINAL:
        return ORIGINAL, choice.reason, None
    return f"cvperf.{choice.backend}", choice.reason, partial(override.serve, *args)


def _keep_from_dynamo(code: CodeType) -> None:
    """Run a function, and what it calls, as it is written, under torch.compile too.

    Where a model breaks out of its graph, as detection models do at NMS, torch.compile takes the
    Python code that runs there for the model's own, and would compile our kernels' wrappers.
    """
    frames = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(code, frames._FrameExecStrategy(skip, skip))
