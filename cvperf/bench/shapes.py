"""Read the shape lists in ``benchmarks/shapes``: what is measured, one Shape a call.

A file is a YAML mapping with up to four keys, explained at the top of conv2d.yaml: ``quick``,
``calls``, ``shapes`` and ``traced``.
"""

from __future__ import annotations

import difflib
import itertools
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import (
    ConvolutionShape,
    InputGradShape,
    WeightGradShape,
)
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8Shape
from cvperf.bench.problems.int4_linear import Int4LinearShape
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.problems.nms import (
    ARRANGEMENTS,
    BatchedNmsShape,
    NmsPaddedShape,
    NmsShape,
    SoftNmsShape,
)
from cvperf.bench.problems.roi_align import (
    MultiscaleRoiAlignShape,
    RoiAlignBackwardShape,
    RoiAlignShape,
)
from cvperf.ops._activation import ACTIVATIONS

FILES: Mapping[str, tuple[type[Shape], ...]] = {
    "conv2d.yaml": (ConvolutionShape, InputGradShape, WeightGradShape),
    "roi_align.yaml": (RoiAlignShape, RoiAlignBackwardShape, MultiscaleRoiAlignShape),
    "nms.yaml": (NmsShape, BatchedNmsShape, NmsPaddedShape, SoftNmsShape),
    "int8_gemm.yaml": (Int8GemmShape,),
    "conv2d_int8.yaml": (Conv2dInt8Shape,),
    "int4_linear.yaml": (Int4LinearShape,),
}
"""The ops of each file; a line without ``op`` is of the first."""

OPS: tuple[str, ...] = tuple(kind.op for kinds in FILES.values() for kind in kinds)

DEVICES = ("cpu", "cuda")

_HINTS = {kind.op: typing.get_type_hints(kind) for kinds in FILES.values() for kind in kinds}

_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "activation": (None, *ACTIVATIONS),
    "arrangement": tuple(ARRANGEMENTS),
    "devices": DEVICES,
    "dtype": ("float32", "float16", "bfloat16", "float64", "int8", "uint8"),
    "layout": ("channels_last", "contiguous", "n/a"),
    "method": ("linear", "gaussian"),
}
_KEYS = ("quick", "calls", "shapes", "traced")


class ShapesError(ValueError):
    """A shape list does not hold what it should, or nothing in it is what was asked for."""


def load(
    op: str | None = None, *, quick: bool = False, device: str = "cpu", case: str | None = None
) -> list[Shape]:
    """The shapes to measure, in the order of OPS and of the files.

    Args:
        op: one of OPS; None for all of them.
        quick: only those marked for ``--quick``.
        device: ``"cpu"`` or ``"cuda"``; shapes that leave it out are not returned.
        case: a name, or a pattern with ``*`` and ``?``, that the names must match.

    Raises:
        ShapesError: an op or device is unknown, no name matches ``case``, or a file is not as it
            should be; the message names file, entry and field.
    """
    if op is not None and op not in OPS:
        raise ShapesError(f"no shape list is of op {op!r}; known: {', '.join(OPS)}")
    if device not in DEVICES:
        raise ShapesError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    wanted = [shape for file in FILES for shape in _read(file, op)]
    wanted.sort(key=lambda shape: OPS.index(shape.op))
    here = [shape for shape in wanted if device in shape.devices]
    taken = [shape for shape in here if shape.quick or not quick]
    if case is None:
        return taken
    matching = [shape for shape in taken if fnmatchcase(shape.name, case)]
    if not matching:
        raise ShapesError(_no_match(case, wanted, here, device))
    return matching


def parse(text: str, file: str) -> list[Shape]:
    """The shapes of one file's text; ``file``, a key of FILES, says of which ops.

    Raises:
        ShapesError: as ``load``.
    """
    lists = _sections(text, file)
    shapes: dict[tuple[str, str], Shape] = {}
    for line in _traced(file, lists["calls"], lists["traced"]):
        for shape in line.shapes():
            # Layers that differ only in what a call overrides, as in their activation, are one.
            known = shapes.setdefault((shape.op, shape.name), shape)
            if replace(known, nets=shape.nets) != shape:
                raise line.error(f"another layer is called {shape.name!r} too")
            nets = dict.fromkeys((*known.nets, *shape.nets))
            shapes[shape.op, shape.name] = replace(known, nets=tuple(nets))
    for number, entry in enumerate(lists["shapes"], 1):
        line = _Line(file, f"shapes, entry {number}", entry)
        for shape in line.shapes():
            if (shape.op, shape.name) in shapes:
                raise line.error(f"{shape.op} already has a shape called {shape.name!r}")
            shapes[shape.op, shape.name] = shape
    return _with_quick(file, lists["quick"], shapes)


@dataclass(frozen=True)
class _Line:
    """One line of a file: the fields of a shape, or of several where a list stands for each."""

    file: str
    place: str
    """``"shapes, entry 3"``."""
    entry: Any

    def error(self, message: str) -> ShapesError:
        return ShapesError(f"{self.file}, {self.place} {self.entry}: {message}")

    def shapes(self) -> Iterator[Shape]:
        if not isinstance(self.entry, Mapping):
            raise self.error("expected a mapping of fields")
        kinds = {kind.op: kind for kind in FILES[self.file]}
        for op in _each(self.entry.get("op", next(iter(kinds)))):
            if op not in kinds:
                raise self.error(f"op must be one of {', '.join(kinds)}; got {op!r}")
            yield from self._expand(kinds[op])

    def _expand(self, kind: type[Shape]) -> Iterator[Shape]:
        hints = _HINTS[kind.op]
        known = {item.name: item for item in fields(kind) if item.name != "quick"}
        given = {name: value for name, value in self.entry.items() if name != "op"}
        if unknown := [str(name) for name in given if name not in known]:
            raise self.error(
                f"unknown field {', '.join(unknown)}; {kind.op} has {', '.join(known)}"
            )
        options = {
            name: [self._value(name, one, hints[name]) for one in _choices(value, hints[name])]
            for name, value in given.items()
        }
        for values in itertools.product(*options.values()):
            yield self._shape(kind, dict(zip(options, values, strict=True)), known)

    def _shape(self, kind: type[Shape], values: dict[str, Any], known: Mapping[str, Any]) -> Shape:
        needed = [
            name
            for name, item in known.items()
            if item.default is MISSING and name not in values and name != "name"
        ]
        if needed:
            raise self.error(f"missing field {', '.join(needed)}")
        name = values.pop("name", "")
        if issubclass(kind, RoiAlignShape) and not name:
            raise self.error("missing field name: RoI Align's numbers do not make a readable one")
        shape = kind(name=name, **values)
        return replace(shape, name=full_name(shape))

    def _value(self, name: str, value: Any, hint: Any) -> Any:
        """``value`` as the field's type: a pair may be given as one number."""
        options = typing.get_args(hint) if typing.get_origin(hint) is not tuple else ()
        if typing.get_origin(hint) is tuple:
            result: Any = self._tuple(name, value, typing.get_args(hint))
        elif _is(value, options or (hint,)):
            result = value
        else:
            raise self.error(f"{name} must be {_word(hint)}, got {value!r}")
        for one in result if isinstance(result, tuple) else (result,):
            if name in _CHOICES and one not in _CHOICES[name]:
                names = ", ".join(map(str, _CHOICES[name]))
                raise self.error(f"{name} must be one of {names}; got {one!r}")
        return result

    def _tuple(self, name: str, value: Any, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if Ellipsis in items:  # any number of words; a mapping counts them, as nets: {resnet50: 3}
            words = tuple(value) if isinstance(value, list | Mapping) else ()
            if not words or not all(isinstance(word, str) for word in words):
                raise self.error(f"{name} must be a list of words, got {value!r}")
            return words
        pair = value if isinstance(value, list) else [value] * len(items)
        if len(pair) != len(items) or not all(_is(one, items) for one in pair):
            raise self.error(f"{name} must be one number or {len(items)}, got {value!r}")
        return tuple(pair)


def full_name(shape: Shape) -> str:
    """The name given in its file, or the numbers that tell it apart; then what is unusual."""
    usual = {item.name: item.default for item in fields(shape)}
    if isinstance(shape, ConvolutionShape):
        words = [shape.name or _convolution_name(shape), f"n{shape.n}"]
    elif isinstance(shape, RoiAlignShape):
        words = [shape.name, f"n{shape.n}"]
    elif isinstance(shape, NmsShape):
        iou = shape.iou_threshold
        words = [shape.name or shape.title, "" if iou == usual["iou_threshold"] else f"iou{iou:g}"]
    elif isinstance(shape, Int8GemmShape):
        fused = "fused" if shape.fused else ""
        words = [shape.name or f"{shape.m}x{shape.n}x{shape.k}", fused]
    elif isinstance(shape, Int4LinearShape):
        group = "" if shape.group == usual["group"] else f"g{shape.group}"
        words = [shape.name or f"{shape.m}x{shape.n}x{shape.k}", group]
    else:
        words = [shape.name]
    words += [
        value
        for value in (shape.layout, shape.dtype)
        if value not in (usual["layout"], usual["dtype"])
    ]
    return " ".join(word for word in words if word)


def _convolution_name(shape: ConvolutionShape) -> str:
    depthwise = 1 < shape.groups == shape.c == shape.o
    kept = tuple(d * (k - 1) // 2 for d, k in zip(shape.dilation, shape.kernel, strict=True))
    words = [
        ("dw" if depthwise else "") + _pair(shape.kernel, always=True),
        str(shape.c) if depthwise else f"{shape.c}-{shape.o}",
        f"{shape.h}x{shape.w}",
        f"s{_pair(shape.stride)}" if shape.stride != (1, 1) else "",
        f"p{_pair(shape.padding)}" if shape.padding != kept else "",
        f"d{_pair(shape.dilation)}" if shape.dilation != (1, 1) else "",
        f"g{shape.groups}" if shape.groups > 1 and not depthwise else "",
        shape.activation or "",
        "nobias" if shape.op in ("conv2d", "conv2d_int8") and not shape.bias else "",
    ]
    return " ".join(word for word in words if word)


def _pair(pair: tuple[int, int], always: bool = False) -> str:
    return f"{pair[0]}x{pair[1]}" if always or pair[0] != pair[1] else str(pair[0])


def _read(file: str, op: str | None) -> list[Shape]:
    if op is not None and op not in [kind.op for kind in FILES[file]]:
        return []
    text = (files("cvperf.benchmarks") / "shapes" / file).read_text()
    return [shape for shape in parse(text, file) if op in (None, shape.op)]


def _sections(text: str, file: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            "the shape lists are YAML: pip install 'cvperf[bench]', which brings pyyaml"
        ) from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is 10 times as fast
    try:
        content = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ShapesError(f"{file} is no YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ShapesError(f"{file} must be a mapping with the keys {', '.join(_KEYS)}")
    if unknown := [str(key) for key in content if key not in _KEYS]:
        raise ShapesError(f"{file}: unknown key {', '.join(unknown)}; known: {', '.join(_KEYS)}")
    lists: dict[str, Any] = {key: content.get(key) or [] for key in _KEYS}
    lists["quick"] = lists["quick"] or {}
    for key, kind in zip(_KEYS, (Mapping, list, list, list), strict=True):
        if not isinstance(lists[key], kind):
            raise ShapesError(f"{file}: {key} must be a {'mapping' if kind is Mapping else 'list'}")
    return lists


def _traced(file: str, calls: Sequence[Any], layers: Sequence[Any]) -> Iterator[_Line]:
    """Each call of each layer of the networks that the call names."""
    lines = [_Line(file, f"traced, entry {i}", layer) for i, layer in enumerate(layers, 1)]
    nets = [_nets(line) for line in lines]
    known = dict.fromkeys(itertools.chain(*nets))
    for number, entry in enumerate(calls, 1):
        call = _Line(file, f"calls, entry {number}", entry)
        wanted = _nets(call) if "nets" in entry else list(known)
        if missing := [net for net in wanted if net not in known]:
            raise call.error(
                f"no traced layer is of {', '.join(missing)}; known: {', '.join(known)}"
            )
        overrides = {name: value for name, value in entry.items() if name != "nets"}
        for line, its in zip(lines, nets, strict=True):
            if set(its) & set(wanted):
                yield replace(line, entry={**line.entry, **overrides})


def _nets(line: _Line) -> list[str]:
    if not isinstance(line.entry, Mapping):
        raise line.error("expected a mapping of fields")
    if not isinstance(line.entry.get("nets"), list | Mapping):
        raise line.error("nets must name the networks")
    return list(line.entry["nets"])


def _with_quick(
    file: str, quick: Mapping[str, Any], shapes: dict[tuple[str, str], Shape]
) -> list[Shape]:
    for op, names in quick.items():
        for name in names or ():
            if (op, name) not in shapes:
                near = _near(name, [known for kind, known in shapes if kind == op])
                raise ShapesError(f"{file}, quick, {op}: no shape is called {name!r}{near}")
            shapes[op, name] = replace(shapes[op, name], quick=True)
    return list(shapes.values())


def _no_match(case: str, known: Sequence[Shape], here: Sequence[Shape], device: str) -> str:
    if any(fnmatchcase(shape.name, case) for shape in here):
        return f"what matches {case!r} is not in the quick subset"
    if any(fnmatchcase(shape.name, case) for shape in known):
        return f"what matches {case!r} is not run on {device}"
    return f"no shape matches {case!r}{_near(case, [shape.name for shape in here])}"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=5, cutoff=0.5)
    return f"; near: {', '.join(map(repr, near))}" if near else ""


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _choices(value: Any, hint: Any) -> list[Any]:
    """The values that a field takes in turn: a list is one value only where a tuple is wanted."""
    return [value] if typing.get_origin(hint) is tuple else _each(value)


def _is(value: Any, kinds: tuple[Any, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _word(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
