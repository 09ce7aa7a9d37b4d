"""Time on a GPU: events on the stream, a graph for small kernels, host overhead apart.

Not yet run on hardware.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.timing import Sampler

_SMALL_S = 50e-6
"""Kernels shorter than this are replayed from a graph: launched one by one, the gaps between them
would be measured."""
_IN_GRAPH = 20


class CudaClock:
    """Seconds between two events on the current stream."""

    def sampler(self, run: Callable[[], Any]) -> Sampler:
        run()
        if _elapsed(run, 10) < _SMALL_S and (graph := captured(run)) is not None:
            # A graph holds _IN_GRAPH calls, so it is replayed that many times less.
            return lambda calls: _elapsed(graph.replay, -(-calls // _IN_GRAPH)) / _IN_GRAPH
        return lambda calls: _elapsed(run, calls)


def captured(run: Callable[[], Any]) -> torch.cuda.CUDAGraph | None:
    """A graph of ``_IN_GRAPH`` calls, or None for a call that a graph cannot hold.

    A call that waits for the device (torchvision's NMS does) cannot be captured; it is then timed
    launch by launch, which is also how its users meet it.
    """
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()  # allocations and lazy set-up happen outside the graph
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(_IN_GRAPH):
                run()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph


def rotating(contenders: Sequence[Contender]) -> Contender:
    """One contender that takes the next set of buffers at every call.

    The sets together are larger than the GPU's cache, so that every call reads from memory, as the
    first call of a layer does in a network.
    """
    runs = itertools.cycle([contender.run for contender in contenders])
    first = contenders[0]
    return Contender(lambda: next(runs)(), first.answer, first.context, first.layout, first.note)


def buffer_sets(bytes_of_call: int) -> int:
    """How many sets of buffers overflow the cache twice over; 1 where one set does by itself."""
    cache: int = torch.cuda.get_device_properties(0).L2_cache_size
    return min(max(-(-2 * cache // max(bytes_of_call, 1)), 1), 64)


def host_us(run: Callable[[], Any], calls: int = 50) -> float:
    """Microseconds that the calling thread is busy a call.

    For a call that waits for the device this holds the wait, and that is the finding.
    """
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    spent = time.perf_counter() - start
    torch.cuda.synchronize()
    return spent / calls * 1e6


def _elapsed(run: Callable[[], Any], calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls
