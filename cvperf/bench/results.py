"""What a measurement is, and the JSON Lines files that hold them: one line, one measurement."""

from __future__ import annotations

import json
import math
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Literal

SCHEMA = 1

Status = Literal["ok", "wrong", "unsupported", "missing", "failed"]
STATUSES: tuple[str, ...] = typing.get_args(Status)
SUITES = ("kernels", "models", "training", "overhead", "peaks")

OURS = "cvperf"
"""The contender that is us; names of variants begin with it ("cvperf drop-in")."""


class ResultsError(ValueError):
    """A results file does not hold what the schema says; the message names file, line and field."""


@dataclass(frozen=True)
class Measurement:
    """One contender on one case. docs/benchmarking.md explains each field to readers of the files.

    A contender without a time (any status but ``"ok"``) has None for every figure that a time
    gives, and says why in ``note``.
    """

    suite: str
    """Which suite measured it, one of SUITES."""
    op: str
    """``"conv2d"``, ``"nms"``, ...; the model's or recipe's name in models and training."""
    case: str
    """The case's name, unique in its suite and op: what ``--case`` selects."""
    contender: str
    """``"cvperf"``, ``"torch"``, ``"onnxruntime"``, ..."""
    status: str
    """``ok``; ``wrong`` (error beyond tolerance, so no time); ``unsupported`` (it does not offer
    this call); ``missing`` (not installed: the note has the command); ``failed`` (it raised)."""
    device: str
    """``"cpu"`` or ``"cuda"``."""
    dtype: str
    layout: str
    """The layout that this contender was given: ``contiguous``, ``channels_last`` or ``n/a``."""
    shape: Mapping[str, Any]
    """The call in numbers, by the names of its arguments."""
    version: str = ""
    """The contender's package and version, as ``"onnxruntime 1.32.0"``."""
    note: str = ""
    """Why there is no time, or what a reader must know about it."""
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    n: int = 0
    """Samples taken."""
    samples_ms: Sequence[float] = ()
    """Milliseconds a call of each sample. Sample i of every contender of a case was taken in the
    same round, one after the other: ratios of the same index are paired."""
    host_us: float | None = None
    """On a GPU: microseconds that the calling thread is busy a call, apart from the kernel."""
    error: float | None = None
    """Largest difference from the float64 answer over that answer's largest value; for indices
    the share that differs."""
    tolerance: float | None = None
    flop: int = 0
    """Operations of the textbook algorithm, a multiply-add counted as two."""
    bytes: int = 0
    """Every input read once and every output written once."""
    size: float = 0.0
    """The horizontal axis of the report's plots: boxes for NMS, flop for convolution, ..."""
    roofline_ms: float | None = None
    """The larger of flop over the measured rate and bytes over the measured bandwidth."""
    roofline_share: float | None = None
    """roofline_ms / median_ms."""
    peak_bytes: int | None = None
    """Memory of one call at its highest, above what was in use before it."""
    energy_j: float | None = None
    """Joules a call, where the machine has a counter (RAPL, NVML)."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What only this suite knows: throughput, share by op, pictures."""
    command: str = ""
    """The exact command that repeats this row."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The machine and the versions, as ``cvperf.bench.machine.record`` collects them."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), _TYPES[item.name])
        if self.schema != SCHEMA:
            raise ResultsError(f"schema is {self.schema}; this version of cvperf reads {SCHEMA}")
        if self.suite not in SUITES:
            raise ResultsError(f"suite must be one of {', '.join(SUITES)}, got {self.suite!r}")
        if self.status not in STATUSES:
            raise ResultsError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")
        if (self.status == "ok") != (self.median_ms is not None):
            raise ResultsError(
                f"status is {self.status!r} and median_ms is {self.median_ms}: "
                "a time belongs to every row that is ok, and to no other"
            )

    @property
    def ours(self) -> bool:
        """Whether this is cvperf, in any variant."""
        return self.contender.split(" ")[0] == OURS

    @property
    def time_ms(self) -> float:
        """The median of a row that has a time; only of those."""
        assert self.median_ms is not None, f"{self.contender} on {self.case} is {self.status}"
        return self.median_ms

    @property
    def key(self) -> tuple[str, ...]:
        """What two rows share when they measure the same thing in the same way."""
        return (*self.race, self.contender)

    @property
    def race(self) -> tuple[str, ...]:
        """What the contenders of one case share."""
        return (self.suite, self.op, self.case, self.device, self.dtype)


_TYPES = typing.get_type_hints(Measurement)


def read(path: Path) -> list[Measurement]:
    """Every measurement of a JSON Lines file.

    Raises:
        ResultsError: a line is no JSON or no measurement; the message has the line's number.
        FileNotFoundError: there is no such file.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(_parse(line))
        except ValueError as error:
            raise ResultsError(f"{path}, line {number}: {error}") from error
    return rows


def read_all(paths: Iterable[Path]) -> list[Measurement]:
    """The measurements of files, and of every ``*.jsonl`` in folders (searched to the bottom)."""
    rows = []
    for path in paths:
        files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not files:
            raise ResultsError(f"{path} holds no .jsonl file")
        for file in files:
            rows.extend(read(file))
    return rows


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """Open ``path`` for measurements; it appears, whole, when the block ends without an error.

    Until then the lines are in ``<path>.partial``, which a killed run leaves behind: it is valid
    too, up to the last line written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        yield Writer(file)
    os.replace(partial, path)


@dataclass(frozen=True)
class Writer:
    """Appends measurements to an open file."""

    file: IO[str]

    def write(self, row: Measurement) -> None:
        self.file.write(json.dumps(asdict(row), default=list, allow_nan=False) + "\n")
        self.file.flush()


def _parse(line: str) -> Measurement:
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ResultsError(f"expected an object, got {type(values).__name__}")
    known = {item.name for item in fields(Measurement)}
    if unknown := sorted(set(values) - known):
        raise ResultsError(f"unknown fields: {', '.join(unknown)}")
    try:
        return Measurement(**values)
    except TypeError as error:  # a field without a default is missing
        raise ResultsError(str(error).replace("Measurement.__init__() ", "")) from error


def _check(name: str, value: Any, expected: Any) -> None:
    options = typing.get_args(expected) if _is_union(expected) else (expected,)
    kinds = tuple(typing.get_origin(option) or option for option in options)
    if float in kinds:
        kinds = (*kinds, int)
    fits = isinstance(value, kinds) and not (
        isinstance(value, bool) or _text_for_list(value, kinds)
    )
    if not fits:
        raise ResultsError(f"{name} must be {_name(expected)}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultsError(f"{name} must be finite, got {value}")


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType)


def _text_for_list(value: Any, kinds: tuple[Any, ...]) -> bool:
    return isinstance(value, str) and str not in kinds


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
