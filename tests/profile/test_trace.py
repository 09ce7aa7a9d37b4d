"""Reading a Chrome trace: which span is inside which, and what the GPU's kernels belong to."""

from __future__ import annotations

from typing import Any

import pytest

from cvperf.profiler import gpu, memory
from cvperf.profiler.combine import combine, inclusive_us
from cvperf.profiler.trace import PASS, Pass, parse


def event(name: str, start: float, us: float, cat: str = "cpu_op", **more: Any) -> dict[str, Any]:
    base = {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": 1e12 + start, "dur": us}
    return base | {"args": {}} | more


def annotation(name: str, start: float, us: float) -> dict[str, Any]:
    return event(name, start, us, "user_annotation")


def one_pass() -> Pass:
    return parse(
        [
            event("aten::before", -10, 5),
            annotation(PASS, 0, 100),
            annotation("Net", 10, 80),
            annotation("Net.conv", 20, 50),
            event("aten::conv2d", 20, 40),
            event("aten::convolution", 25, 30),
        ]
    )


def test_time_is_charged_to_the_innermost_span() -> None:
    one = one_pass()
    own = {span.name: span.self_us for span in one.spans}
    assert own == {
        PASS: 20, "Net": 30, "Net.conv": 10, "aten::conv2d": 10, "aten::convolution": 30
    }  # fmt: skip
    assert inclusive_us(one) == [100, 80, 50, 40, 30]


def test_a_trace_without_a_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was profiled"):
        parse([event("aten::add", 0, 1)])


def test_work_of_other_threads_belongs_to_the_layer_that_waits_for_it() -> None:
    one = parse(
        [
            annotation(PASS, 0, 100),
            annotation("Net", 0, 60),
            event("aten::mm", 10, 30, tid=2),
            event("aten::add", 70, 10, tid=2),
        ]
    )
    parents = {span.name: one.spans[span.parent].name for span in one.spans[1:]}
    assert parents == {"Net": PASS, "aten::mm": "Net", "aten::add": PASS}
    assert sum(span.self_us for span in one.spans) == 100


def test_passes_are_combined_by_their_medians_and_scaled_to_the_unprofiled_time() -> None:
    passes = [one_pass() for _ in range(3)]
    passes[1].spans[4].self_us = 99.0  # an interruption, in one pass of three
    combined = combine(passes, wall_us=96.0)
    assert sum(span.self_us for span in combined.spans) == pytest.approx(96.0)
    # 4 us over 4 recorded spans: 1 us each, charged to the span around it.
    own = {span.name: span.self_us for span in combined.spans}
    assert own["Net"] == pytest.approx(29.0)
    assert own["aten::convolution"] == pytest.approx(30.0)


def test_passes_that_differ_are_not_mixed() -> None:
    short = parse([annotation(PASS, 0, 10)])
    combined = combine([one_pass(), short, one_pass()], None)
    assert len(combined.spans) == 5


def test_memory_peaks_where_the_most_is_in_use() -> None:
    def allocation(start: float, size: int) -> dict[str, Any]:
        args = {"Bytes": size, "Device Type": 0, "Total Allocated": 0}
        return event("[memory]", start, 0, "cpu_instant_event", ph="i", args=args)

    events = [annotation(PASS, 0, 100), annotation("Net.conv", 20, 50)]
    events += [event("aten::conv2d", 20, 40), event("aten::empty", 25, 5)]
    events += [allocation(5, 1000), allocation(27, 4000), allocation(90, -4000)]
    (curve,) = memory.curves(parse(events))
    assert (curve.peak_bytes, curve.peak_ms) == (5000, 0.027)
    assert (curve.peak_op, curve.peak_layer) == ("aten::conv2d", "Net.conv")
    assert curve.points == ((0.0, 0), (0.005, 1000), (0.027, 5000), (0.09, 1000))


def gpu_pass() -> Pass:
    """Two launches of one kernel and a copy; the second begins 20 us after the first ended."""

    def kernel(start: float, us: float, correlation: int, occupancy: float) -> dict[str, Any]:
        args = {"stream": 7, "device": 0, "correlation": correlation}
        args |= {"est. achieved occupancy %": occupancy}
        return event("conv_kernel", start, us, "kernel", tid=7, args=args)

    def launch(start: float, correlation: int, external: int) -> dict[str, Any]:
        args = {"correlation": correlation, "External id": external}
        return event("cudaLaunchKernel", start, 2, "cuda_runtime", args=args)

    return parse(
        [
            annotation(PASS, 0, 200),
            annotation("Net.conv", 10, 50),
            event("aten::conv2d", 10, 40, args={"External id": 5}),
            event("aten::add", 55, 4, args={"External id": 6}),
            launch(12, 100, 5),
            launch(56, 101, 6),
            kernel(30, 60, 100, 75.0),
            kernel(110, 30, 101, 30.0),
            event("Memcpy DtoH", 140, 10, "gpu_memcpy", tid=7, args={"stream": 7, "device": 0}),
        ]
    )


def test_on_a_gpu_an_op_is_charged_with_its_kernels() -> None:
    own = {span.name: span.self_us for span in gpu_pass().spans}
    assert own["aten::conv2d"] == 60
    assert own["aten::add"] == 30
    # 100 us idle, and the copy, of which the trace does not say who asked for it.
    assert own[PASS] == 110
    assert sum(own.values()) == 200


def test_launch_gaps_and_occupancy_are_found() -> None:
    found = gpu.summary(gpu_pass())
    assert found is not None
    assert (found.busy_ms, found.idle_ms, found.launches) == pytest.approx((0.1, 0.02, 2))
    assert [(gap.us, gap.before, gap.layer) for gap in found.gaps] == [
        (20, "conv_kernel", "Net.conv")
    ]
    assert found.kernels[0].occupancy == pytest.approx((60 * 75 + 30 * 30) / 90)


def test_without_kernels_there_is_no_gpu_section() -> None:
    assert gpu.summary(one_pass()) is None
