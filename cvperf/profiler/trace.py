"""A Chrome trace of torch.profiler as a tree of spans, with its memory events and GPU kernels.

The trace is read instead of torch.profiler's Python objects because it also has the strides and the
scalar arguments of every op and the occupancy of every kernel, and because a recorded file serves
as well as a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PASS = "cvperf: profiled pass"
"""The range around what is profiled; nothing outside it is read."""

ENGINE = "autograd::engine::evaluate_function: "
"""What autograd puts before the name of each step of a backward pass."""

_KINDS = {"cpu_op": "op", "user_annotation": "layer"}
_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(frozen=True)
class Arguments:
    """An op's arguments as the profiler writes them, one entry each, in the schema's order."""

    dims: Sequence[Any]
    types: Sequence[str]
    strides: Sequence[Any]
    concrete: Sequence[str]


@dataclass
class Span:
    """One op call or one layer's forward.

    Times are in microseconds since the pass began. Parents stand before their children.
    """

    name: str
    kind: str
    """``"pass"``, ``"layer"`` or ``"op"``."""
    start: float
    end: float
    parent: int
    """Index of the span around it, -1 for the pass."""
    self_us: float = 0.0
    """Time in it and in no span inside it; on a GPU, of the kernels that it launched itself."""
    children: int = 0
    arguments: Arguments | None = None


@dataclass(frozen=True)
class Kernel:
    """One kernel, copy or fill on a GPU."""

    name: str
    start: float
    end: float
    stream: str
    launcher: int
    """Index of the span that launched it; 0, the pass, where that is not recorded."""
    occupancy: float | None
    """Percent of the warps that could be resident, as the profiler estimates it."""
    copy: bool
    """Whether it is a copy or a fill."""


@dataclass(frozen=True)
class Allocation:
    """Memory taken (positive bytes) or given back."""

    time: float
    bytes: int
    on_gpu: bool


@dataclass
class Pass:
    """What one run of the target did."""

    spans: list[Span]
    allocations: list[Allocation] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)

    @property
    def wall_us(self) -> float:
        return self.spans[0].end


def parse(events: Iterable[Mapping[str, Any]]) -> Pass:
    """The spans of the trace's one profiled pass.

    Raises:
        ValueError: no pass is marked in it.
    """
    complete = [event for event in events if event.get("ph") in ("X", "i")]
    marks = [event for event in complete if event["name"] == PASS and "dur" in event]
    marks = [event for event in marks if event.get("cat") == "user_annotation"]
    if not marks:
        raise ValueError(f"the trace has no range called {PASS!r}: nothing was profiled")
    mark = marks[0]
    begin, end = float(mark["ts"]), float(mark["ts"]) + float(mark["dur"])
    inside = [event for event in complete if begin <= float(event["ts"]) <= end]
    spans, by_id = _tree([event for event in inside if event.get("cat") in _KINDS], mark)
    for event in inside:
        if event.get("cat") == "cuda_runtime" or event.get("cat") == "cuda_driver":
            # A runtime call carries the id of its op, and a kernel that of its runtime call.
            external = event["args"].get("External id")
            by_id[("launch", event["args"].get("correlation"))] = by_id.get(("op", external), 0)
    kernels = [_kernel(event, begin, by_id) for event in complete if event.get("cat") in _ON_GPU]
    kernels = sorted((kernel for kernel in kernels if kernel.start >= 0), key=lambda k: k.start)
    one = Pass(spans, [_allocation(e, begin) for e in inside if e["name"] == "[memory]"], kernels)
    if kernels:
        _charge_kernels(one)
    return one


def _tree(
    events: Sequence[Mapping[str, Any]], mark: Mapping[str, Any]
) -> tuple[list[Span], dict[tuple[str, Any], int]]:
    """Spans in the order they began, and (``"op"``, external id) -> index."""
    main, begin = mark["tid"], float(mark["ts"])
    root = Span(PASS, "pass", 0.0, float(mark["dur"]), -1)
    spans, by_id = [root], {("op", mark.get("args", {}).get("External id")): 0}
    stacks: dict[Any, list[int]] = {main: [0]}
    # The main thread first among equals, and what encloses before what is enclosed.
    for event in sorted(events, key=lambda e: (float(e["ts"]), e["tid"] != main, -float(e["dur"]))):
        if event is mark:
            continue
        start = float(event["ts"]) - begin
        stack = stacks.setdefault(event["tid"], [])
        while stack and spans[stack[-1]].end <= start:
            stack.pop()
        # Other threads work for whatever the main thread is waiting in.
        parent = stack[-1] if stack else _waiting(stacks[main], spans, start)
        span = Span(
            name=event["name"],
            kind=_KINDS[event["cat"]],
            start=start,
            end=min(start + float(event["dur"]), spans[parent].end if stack else root.end),
            parent=parent,
            arguments=_arguments(event.get("args", {})),
        )
        stack.append(len(spans))
        by_id["op", event.get("args", {}).get("External id")] = len(spans)
        spans.append(span)
    for span in spans:
        span.self_us += span.end - span.start
        if span.parent >= 0:
            spans[span.parent].self_us -= span.end - span.start
            spans[span.parent].children += 1
    for span in spans:
        span.self_us = max(span.self_us, 0.0)
    return spans, by_id


def _waiting(stack: Sequence[int], spans: Sequence[Span], time: float) -> int:
    """The innermost layer that is open at ``time``; the pass, if none is."""
    is_open = (i for i in reversed(stack) if spans[i].kind != "op" and spans[i].end > time)
    return next(is_open, 0)


def _arguments(args: Mapping[str, Any]) -> Arguments | None:
    if "Input Dims" not in args:
        return None
    return Arguments(
        args["Input Dims"],
        args.get("Input type", ()),
        args.get("Input Strides", ()),
        args.get("Concrete Inputs", ()),
    )


def _allocation(event: Mapping[str, Any], begin: float) -> Allocation:
    args = event["args"]
    return Allocation(
        float(event["ts"]) - begin, int(args["Bytes"]), args.get("Device Type", 0) != 0
    )


def _kernel(event: Mapping[str, Any], begin: float, by_id: Mapping[tuple[str, Any], int]) -> Kernel:
    args = event.get("args", {})
    start = float(event["ts"]) - begin
    launched = by_id.get(("launch", args["correlation"])) if "correlation" in args else None
    if launched is None and "External id" in args:
        launched = by_id.get(("op", args["External id"]))
    return Kernel(
        name=event["name"],
        start=start,
        end=start + float(event["dur"]),
        stream=f"{args.get('device', 0)}:{args.get('stream', event.get('tid'))}",
        launcher=launched or 0,
        occupancy=args.get("est. achieved occupancy %"),
        copy=event["cat"] != "kernel",
    )


def _charge_kernels(one: Pass) -> None:
    """Make the spans' own times those of their kernels; the pass keeps what the GPU was idle."""
    busy = 0.0
    for span in one.spans:
        span.self_us = 0.0
    for kernel in one.kernels:
        one.spans[kernel.launcher].self_us += kernel.end - kernel.start
        busy += kernel.end - kernel.start
    one.spans[0].self_us += max(one.wall_us - busy, 0.0)
