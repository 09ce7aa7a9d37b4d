"""Where the time goes: by op, by layer, and by the shape of the call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cvperf.bench.problems.base import Shape
from cvperf.bench.roofline import Ceilings
from cvperf.profiler import calls, work
from cvperf.profiler.combine import inclusive_us
from cvperf.profiler.trace import ENGINE, Arguments, Pass

OUTSIDE = "outside ops"
"""Python between the ops; on a GPU also the time in which it is idle."""

_WRAPPERS = {
    "aten::conv2d": "convolution",
    "aten::conv1d": "convolution",
    "aten::conv3d": "convolution",
    "aten::conv_transpose2d": "convolution",
}
"""Ops that only call one of FAMILIES: their own time is its, their calls are not counted again."""

_NAMES = {**calls.FAMILIES, **_WRAPPERS}


@dataclass
class Row:
    """Time of an op, of a layer, or of one shape of call."""

    name: str
    calls: int = 0
    ms: float = 0.0
    """With everything inside, a pass."""
    self_ms: float = 0.0
    """For a layer: in its own ops, not in those of layers inside it."""
    share: float = 0.0
    """``ms`` over the pass."""
    roofline_share: float | None = None
    """Least time the machine needs over the time taken, of the calls whose work is known."""
    kind: str = ""
    """For a layer: its module's class. For a call: the op."""


@dataclass
class Call:
    """All calls of one op with one shape: same sizes, dtypes, layouts and settings."""

    op: str
    """As the dispatcher names it."""
    arguments: Arguments
    device: str
    shapes: tuple[Shape, ...]
    work: list[work.Work]
    us: list[float] = field(default_factory=list)
    """Each call's time."""
    layers: list[str] = field(default_factory=list)
    """Layers that make it, in order, once each."""

    @property
    def family(self) -> str:
        return calls.FAMILIES.get(self.op, self.op)

    @property
    def ms(self) -> float:
        return sum(self.us) / 1e3

    @property
    def text(self) -> str:
        """The call in words: ``3x3 256-256 25x25 nobias n1 contiguous``, as benchmarks name it."""
        if self.shapes:
            return self.shapes[0].name
        return " ".join(str(dims) for dims in self.arguments.dims if dims)

    def roofline_ms(self, ceilings: Ceilings | None) -> float | None:
        """Least milliseconds of all these calls together."""
        if ceilings is None or not self.work:
            return None
        times = [ceilings.roofline_ms(one.flop, one.bytes, one.dtype) for one in self.work]
        known = [time for time in times if time is not None]
        return sum(known) * len(self.us) if len(known) == len(times) else None


@dataclass
class Grouping:
    """Which op every span's time belongs to."""

    owner: list[int]
    """Span -> the span of the op that it is part of; itself for layers."""
    layer: list[int]
    """Span -> the layer it is in."""


def group(one: Pass) -> Grouping:
    """Ops inside a kernel of FAMILIES belong to it; any other belongs to the outermost op."""
    owner = list(range(len(one.spans)))
    layer = list(range(len(one.spans)))
    for index, span in enumerate(one.spans[1:], 1):
        if span.kind != "op":
            continue
        layer[index] = layer[span.parent]
        above = owner[span.parent]
        if one.spans[above].kind != "op":
            continue
        nested = one.spans[above].name in calls.FAMILIES
        if nested or span.name not in calls.FAMILIES:
            owner[index] = above
    return Grouping(owner, layer)


def call_rows(one: Pass, grouping: Grouping) -> list[Call]:
    """Every op call by its shape, longest first; ops without recorded arguments are left out."""
    own = _owned_us(one, grouping)
    on_gpu = {grouping.owner[kernel.launcher] for kernel in one.kernels}
    found: dict[str, Call] = {}
    for index, us in own.items():
        span = one.spans[index]
        if span.kind != "op" or span.arguments is None:
            continue
        device = "cuda" if index in on_gpu else "cpu"
        key = f"{span.name} {device} {span.arguments}"
        if key not in found:
            found[key] = _call(span.name, span.arguments, device)
        found[key].us.append(us)
        name = one.spans[grouping.layer[index]].name
        if name not in found[key].layers:
            found[key].layers.append(name)
    return sorted(found.values(), key=lambda call: -call.ms)


def _call(op: str, arguments: Arguments, device: str) -> Call:
    try:
        given = calls.values(arguments)
    except ValueError:  # arguments that no trace describes, such as lists of tensors
        return Call(op, arguments, device, (), [])
    shapes = calls.shapes(op, given)
    return Call(op, arguments, device, shapes, work.of_shapes(shapes) or work.of_call(op, given))


def _owned_us(one: Pass, grouping: Grouping) -> dict[int, float]:
    """Owning span -> time of all spans that belong to it."""
    own: dict[int, float] = {}
    for span, index in zip(one.spans, grouping.owner, strict=True):
        own[index] = own.get(index, 0.0) + span.self_us
    return own


def op_rows(
    one: Pass, grouping: Grouping, rows: Sequence[Call], ceilings: Ceilings | None
) -> list[Row]:
    """Time by op, longest first; the shares sum to 1."""
    found: dict[str, Row] = {}
    for index, us in _owned_us(one, grouping).items():
        span = one.spans[index]
        is_op = span.kind == "op"
        name = _NAMES.get(span.name, span.name.removeprefix(ENGINE)) if is_op else OUTSIDE
        row = found.setdefault(name, Row(name))
        row.calls += is_op and span.name not in _WRAPPERS
        row.ms += us / 1e3
    for name, row in found.items():
        row.self_ms = row.ms
        row.roofline_share = _share([call for call in rows if call.family == name], ceilings)
    return _with_shares(sorted(found.values(), key=lambda row: -row.ms))


def _share(rows: Sequence[Call], ceilings: Ceilings | None) -> float | None:
    known = [(call.ms, call.roofline_ms(ceilings)) for call in rows]
    taken = sum(ms for ms, least in known if least is not None)
    least_ms = sum(least for _, least in known if least is not None)
    return least_ms / taken if taken else None


def layer_rows(one: Pass, grouping: Grouping, classes: Mapping[str, str]) -> list[Row]:
    """Time by layer in the order of first use; a layer's row stands before those inside it."""
    total = inclusive_us(one)
    found: dict[str, Row] = {}
    for index, span in enumerate(one.spans[1:], 1):
        if span.kind != "layer":
            continue
        row = found.setdefault(span.name, Row(span.name, kind=classes.get(span.name, "range")))
        row.calls += 1
        if not _inside_itself(one, index):
            row.ms += total[index] / 1e3
    for span, index in zip(one.spans, grouping.layer, strict=True):
        name = one.spans[index].name
        if name in found:
            found[name].self_ms += span.self_us / 1e3
    for row in found.values():
        row.share = row.ms * 1e3 / (total[0] or 1.0)
    return list(found.values())


def _inside_itself(one: Pass, index: int) -> bool:
    name, parent = one.spans[index].name, one.spans[index].parent
    while parent > 0:
        if one.spans[parent].name == name:
            return True
        parent = one.spans[parent].parent
    return False


def _with_shares(rows: list[Row]) -> list[Row]:
    whole = sum(row.ms for row in rows) or 1.0
    for row in rows:
        row.share = row.ms / whole
    return rows
