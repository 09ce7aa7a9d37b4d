"""Who runs a call on a GPU where several can: CUDA C++, Triton or the original.

By what GPUs have measured (``crossovers.jsonl``): the winner at the nearest size that the same
architecture measured of the same op, dtype, layout and kind. Where nothing near was measured, by
``DEFAULT_ORDER``, and the reason says so. A backend that was wrong in one of these cases is left
out of all of them.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from torch import Tensor

from cvperf.backends.gpu import crossovers
from cvperf.backends.gpu.calls import PLACES, Place
from cvperf.backends.gpu.crossovers import Crossover
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import family
from cvperf.backends.registry import ORIGINAL, UNMEASURED, Backend, Choice
from cvperf.errors import UnsupportedError

REACH = 8.0
"""A measured size speaks for sizes from an eighth of it to eight times it."""

DROP_IN_US = 40.0
"""What the drop-in itself takes of the calling thread (docs/performance.md, for the CPU); it counts
against ours where the original is the other choice."""

_Order = tuple[str, str, str]
_CUDA: _Order = (ORIGINAL, "cuda", "triton")
_TRITON: _Order = (ORIGINAL, "triton", "cuda")

# The original comes first: a kernel that no GPU has raced is not put in its place. It is a
# contender in the drop-in alone; cvperf.ops, which was asked for by name, passes over it.
#
# Between ours, CUDA C++ comes first, whose launch costs the least.
_PLAIN = {80: _CUDA, 90: _CUDA, 100: _CUDA}
# But dense products that have no wgmma or tcgen05 of ours: mma.sync reaches 62 % of the tensor
# cores' rate on sm_90 and 30 % on sm_100 (published figures), where Triton uses the others.
_MMA_SYNC = {80: _CUDA, 90: _TRITON, 100: _TRITON}
_WGMMA = {80: _CUDA, 90: _CUDA, 100: _TRITON}

DEFAULT_ORDER: Mapping[str, Mapping[int, _Order]] = {
    "conv2d": _WGMMA,
    "conv2d_input_grad": _MMA_SYNC,
    "conv2d_weight_grad": _MMA_SYNC,
    "conv2d_int8": _WGMMA,
    "pack_conv2d_int8": _PLAIN,
    "int8_gemm": _WGMMA,
    "pack_int8": _PLAIN,
    "int4_linear": _MMA_SYNC,
    "roi_align": _PLAIN,
    "roi_align_backward": _PLAIN,
    "multiscale_roi_align": _PLAIN,
    "multiscale_roi_align_backward": _PLAIN,
    "roi_pool": _PLAIN,
    "roi_pool_backward": _PLAIN,
    "nms": _PLAIN,
    "batched_nms": _PLAIN,
    "nms_padded": _PLAIN,
    "soft_nms": _PLAIN,
    "paste_masks": _PLAIN,
    "bias_activation": _PLAIN,
    "quantize": _PLAIN,
    "dequantize": _PLAIN,
    "normalize_image": _PLAIN,
}
"""Op -> architecture family -> who comes first where nothing near the call was measured."""


def between(backends: tuple[Backend, ...]) -> Backend:
    """The backends of one op as one, which hands each call to the one that wins it."""
    by_name = {backend.name: backend for backend in backends}
    names = tuple(by_name)
    op = backends[0].op

    def choose(*args: Any) -> Choice:
        return _decide(op, names, args)

    def run(*args: Any) -> Any:
        return by_name[_decide(op, names, args).backend].function(*args)

    return replace(backends[0], name=" or ".join(names), function=run, choose=choose)


def against_original(op: str, ours: str, args: Sequence[Any]) -> Choice:
    """Whether one of our backends or the original runs a call of the drop-in."""
    return _decide(op, (ORIGINAL, ours), args)


@functools.cache
def measured(op: str) -> bool:
    """Whether any GPU has measured this op."""
    return any(line.op == op for line in _recorded())


@contextmanager
def recording(lines: Iterable[Crossover]) -> Iterator[None]:
    """Choose by these lines in place of the file's: for tests, which have no GPU."""
    _others.append(tuple(lines))
    _forget()
    try:
        yield
    finally:
        _others.pop()
        _forget()


def _forget() -> None:
    _contest.cache_clear()
    measured.cache_clear()


_others: list[tuple[Crossover, ...]] = []


def _recorded() -> tuple[Crossover, ...]:
    return _others[-1] if _others else _shipped()


@functools.cache
def _shipped() -> tuple[Crossover, ...]:
    return crossovers.read(crossovers.FILE)


_NOWHERE = Place("", "", "", 0.0)


def _decide(op: str, names: tuple[str, ...], args: Sequence[Any]) -> Choice:
    first = args[0]
    device = (first if isinstance(first, Tensor) else first[0]).device
    # An op that no benchmark measures has no place among the lines.
    place = PLACES[op](*args) if op in PLACES else _NOWHERE
    contest = _contest(op, names, machine(device).capability, *place[:3])
    return contest.winner(place.size)


@dataclass(frozen=True)
class _Contest:
    """Who wins the calls of one op, dtype, layout and kind on one architecture.

    Attributes:
        sizes: measured, ascending.
        winners: at each of them.
        otherwise: far from all of them.
    """

    sizes: tuple[float, ...]
    winners: tuple[Choice, ...]
    otherwise: Choice

    def winner(self, size: float) -> Choice:
        if not self.sizes:
            return self.otherwise
        above = bisect(self.sizes, size)
        near = range(max(above - 1, 0), min(above + 1, len(self.sizes)))
        distance, nearest = min((_ratio(size, self.sizes[i]), i) for i in near)
        return self.winners[nearest] if distance <= REACH else self.otherwise


def _ratio(a: float, b: float) -> float:
    """Larger over smaller; calls of no size stand beside those of size 1."""
    a, b = max(a, 1.0), max(b, 1.0)
    return a / b if a > b else b / a


@functools.cache
def _contest(
    op: str, names: tuple[str, ...], capability: int, dtype: str, layout: str, kind: str
) -> _Contest:
    key = (op, capability, dtype, layout, kind)
    lines = [
        line
        for line in _recorded()
        if (line.op, line.capability, line.dtype, line.layout, line.kind) == key
    ]
    wrong = {
        name: f"{name} is left out, since on {line.gpu} ({line.case}) {line.wrong[name]}"
        for line in lines
        for name in names
        if name in line.wrong
    }
    right = tuple(name for name in names if name not in wrong)
    left_out = "".join(f"; {why}" for why in wrong.values())
    if not right:
        raise UnsupportedError(f"no backend serves {op} with {dtype} ({layout}){left_out}")
    if len(right) == 1:
        only = Choice(right[0], f"the only one that serves it{left_out}")
        return _Contest((), (), only)
    comparable = [line for line in lines if all(name in line.ms for name in right)]
    by_size = [
        (size, list(same)) for size, same in groupby(sorted(comparable, key=_size), key=_size)
    ]
    winners = [_fastest(same, right, left_out) for _, same in by_size]
    order = DEFAULT_ORDER[op][family(capability)]
    first = next(name for name in order if name in right)
    return _Contest(
        tuple(size for size, _ in by_size), tuple(winners), Choice(first, UNMEASURED + left_out)
    )


def _size(line: Crossover) -> float:
    return line.size


def _fastest(lines: Sequence[Crossover], names: Sequence[str], left_out: str) -> Choice:
    """The winner over cases of one size, by the geometric mean of its times."""
    drop_in = ORIGINAL in names
    us = {}
    for name in names:
        more = DROP_IN_US if drop_in and name != ORIGINAL else 0.0
        us[name] = math.prod(line.us(name, more) ** (1 / len(lines)) for line in lines)
    times = ", ".join(f"{name} {time:.3g} us" for name, time in us.items())
    where = f"measured on sm_{lines[0].capability} at size {lines[0].size:.4g}"
    cost = ", the drop-in's own time included" if drop_in else ""
    return Choice(min(names, key=us.__getitem__), f"{where}{cost}: {times}{left_out}")
