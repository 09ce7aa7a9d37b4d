"""How much faster cvperf is than torch, read from the ledger's rows of like shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from cvperf import _C
from cvperf.backends.cpu.conv2d import fits_winograd
from cvperf.backends.processor import cpu_name
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import OURS, Measurement, read_all
from cvperf.bench.roofline import Ceilings

MAKE_ONE = (
    "cvperf bench kernels --quick --out FILE.jsonl, then cvperf profile ... --ledger FILE.jsonl"
)
"""The way out where the ledger knows nothing of this machine."""

_ORIGINALS = ("torchvision", "torch")
_DROP_IN = f"{OURS} drop-in"
_NEIGHBOURS = 2
_OF_BATCH = 0.25
"""A batch twice as large is the same convolution twice, which changes the ratio little."""


@dataclass(frozen=True)
class Ratio:
    """The original's time over ours."""

    value: float
    cases: tuple[str, ...]
    """The ledger's cases that it was read from, nearest first."""
    distance: float
    """To the nearest one: 0 for the same shape; one number doubled is 1."""


@dataclass(frozen=True)
class Pair:
    """A case that both were timed on."""

    row: Measurement
    """Ours."""
    ratio: float
    """1 where the difference is within noise."""


@dataclass(frozen=True)
class Speedups:
    """The ledger's ratios for one device."""

    pairs: tuple[Pair, ...] = ()
    about: str = ""
    """Which machine's rows these are, or why there are none."""
    refused_us: float = 0.0
    """What the drop-in adds to a call that it hands to the original."""
    served_us: float = 0.0
    """What the drop-in adds to a call of ours, beyond calling the op by name."""
    notes: tuple[str, ...] = field(default=())
    rows: tuple[Measurement, ...] = ()
    """All rows of that machine."""

    @property
    def ceilings(self) -> Ceilings | None:
        """That machine's, where the ledger has them for one thread count."""
        threads = str(torch.get_num_threads())
        peaks = [row for row in self.rows if row.suite == "peaks" and row.status == "ok"]
        if self.rows and self.rows[0].device == "cpu":
            peaks = [row for row in peaks if row.environment.get("threads") == threads]
        return Ceilings.from_rows(peaks) if peaks else None

    def ratio(self, shape: Shape) -> Ratio | None:
        """The ratio at ``shape``: of the same case, or between the two nearest.

        Only rows of the same op, dtype, layout and kind (1x1 or larger kernels, grouped or not)
        count. None where there are none.
        """
        numbers = dict(shape.numbers)
        near = sorted(
            (
                (distance, pair)
                for pair in self.pairs
                if (pair.row.op, pair.row.dtype, pair.row.layout)
                == (shape.op, shape.dtype, shape.layout)
                and (distance := _distance(numbers, pair.row.shape)) is not None
            ),
            key=lambda entry: (entry[0], entry[1].row.case),
        )[:_NEIGHBOURS]
        if not near:
            return None
        if near[0][0] == 0:
            near = near[:1]
        # One doubling further away counts a sixteenth: only what is about as near is mixed in.
        weights = [16 ** (near[0][0] - distance) for distance, _ in near]
        logs = [math.log(pair.ratio) for _, pair in near]
        mean = sum(w * v for w, v in zip(weights, logs, strict=True)) / sum(weights)
        return Ratio(math.exp(mean), tuple(pair.row.case for _, pair in near), near[0][0])


def load(ledger: Path | None = None, device: str = "cpu") -> Speedups:
    """The ratios of ``ledger``, or of the results that come with cvperf.

    Rows of this processor at this thread count are taken; else those of this processor; else
    those of its instruction set. A ``ledger`` given by name is taken whatever machine it is of.

    Raises:
        FileNotFoundError: there is no such file.
        cvperf.bench.results.ResultsError: it is no ledger.
    """
    path = ledger or Path(str(files("cvperf.benchmarks"))) / "results"
    here = list(path.rglob("*.jsonl")) if path.is_dir() else [path]
    rows = [row for row in (read_all(here) if here else []) if row.device == device]
    chosen, about = _of_this_machine(rows, device)
    if ledger is not None and not chosen and rows:
        chosen, about = rows, f"of another machine ({_machine(rows[0].environment, device)})"
    if not chosen:
        return Speedups(about=f"the ledger has no rows for this machine; make one: {MAKE_ONE}")
    refused, served = _overheads(chosen)
    kernels = [row for row in chosen if row.suite == "kernels"]
    pairs = tuple(_pairs(kernels, served or 0.0))
    notes = []
    if refused is None:
        notes.append("the ledger has no overhead rows: the drop-in's own cost is taken as 0")
    return Speedups(pairs, about, refused or 0.0, served or 0.0, tuple(notes), tuple(chosen))


def _of_this_machine(rows: Sequence[Measurement], device: str) -> tuple[list[Measurement], str]:
    if device == "cuda":
        name = torch.cuda.get_device_name()
        return [row for row in rows if row.environment.get("gpu") == name], f"of this GPU ({name})"
    cpu, isa, threads = cpu_name(), _C.isa(), str(torch.get_num_threads())
    same_set = [row for row in rows if row.environment.get("isa") == isa]
    same_cpu = [row for row in same_set if row.environment.get("cpu") == cpu]
    exact = [row for row in same_cpu if row.environment.get("threads") == threads]
    if exact:
        return exact, f"of this processor ({cpu}, {isa}, {threads} threads)"
    if same_cpu:
        return same_cpu, f"of this processor ({cpu}, {isa}) at other thread counts"
    if same_set:
        name = _machine(same_set[0].environment, device)
        return same_set, f"of another processor with {isa} ({name})"
    return [], ""


def _machine(facts: Mapping[str, str], device: str) -> str:
    if device == "cuda":
        return facts.get("gpu", "unknown GPU")
    threads = facts.get("threads", "?")
    return f"{facts.get('cpu', 'unknown')}, {facts.get('isa', '?')}, {threads} threads"


def _races(rows: Iterable[Measurement]) -> list[dict[str, Measurement]]:
    """The timed contenders of each case, by name."""
    races: dict[Any, dict[str, Measurement]] = {}
    for row in rows:
        if row.median_ms:
            key = (*row.race, tuple(sorted(row.environment.items())))
            races.setdefault(key, {})[row.contender] = row
    return list(races.values())


def _pairs(rows: Iterable[Measurement], served_us: float) -> Iterable[Pair]:
    """Each case's ratio, by the drop-in's row where there is one.

    Our op fuses a convolution's activation, which the drop-in cannot. Its own cost is taken off
    here, since the advisor charges it for every call.
    """
    for race in _races(rows):
        original = next((race[name] for name in _ORIGINALS if name in race), None)
        ours = race.get(_DROP_IN) or race.get(OURS)
        if original and ours:
            own_ms = served_us / 1e3 if ours.contender == _DROP_IN else 0.0
            even = _overlap(original, ours)
            ratio = original.time_ms / max(ours.time_ms - own_ms, 1e-6)
            yield Pair(ours, 1.0 if even else ratio)


def _overlap(one: Measurement, other: Measurement) -> bool:
    """Whether the two are the same within noise: each one's p20 is below the other's p80."""
    if None in (one.p20_ms, one.p80_ms, other.p20_ms, other.p80_ms):
        return False
    return max(one.p20_ms or 0, other.p20_ms or 0) <= min(one.p80_ms or 0, other.p80_ms or 0)


def _overheads(rows: Iterable[Measurement]) -> tuple[float | None, float | None]:
    """Microseconds that the drop-in adds to a call that it refuses, and to one that it serves.

    The convolution of the overhead suite is too small to be served, its NMS is served.
    """
    refused = served = None
    for race in _races(row for row in rows if row.suite == "overhead"):
        drop_in = race.get(_DROP_IN)
        if drop_in is None:
            continue
        if drop_in.op == "conv2d" and "torch" in race:
            refused = max(drop_in.time_ms - race["torch"].time_ms, 0.0) * 1e3
        if drop_in.op == "nms" and OURS in race:
            served = max(drop_in.time_ms - race[OURS].time_ms, 0.0) * 1e3
    return refused, served


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """How unlike two calls of one op are; None where one says nothing of the other.

    Each number counts by the doublings between the two, each setting that differs as one doubling.
    """
    if _kind(one) != _kind(other):
        return None
    first, second = _sizes(one), _sizes(other)
    square = sum(math.log2(a / b) ** 2 for a, b in zip(first, second, strict=True))
    settings = ("stride", "dilation", "activation", "arrangement", "sampling_ratio", "fused")
    square += sum(_plain(one.get(name)) != _plain(other.get(name)) for name in settings)
    return math.sqrt(square)


def _kind(numbers: Mapping[str, Any]) -> tuple[Any, ...]:
    """What must be the same for one call to tell of another."""
    if "weight" not in numbers:
        return ()
    groups = numbers["groups"]
    depthwise = groups > 1 and groups == numbers["weight"][0]
    kernel = numbers["weight"][2:]
    # Another algorithm, with ratios of its own.
    winograd = fits_winograd(kernel, numbers["stride"], numbers["dilation"])
    return (groups > 1, depthwise, max(kernel) > 1, winograd)


def _sizes(numbers: Mapping[str, Any]) -> list[float]:
    """The numbers that decide a call's time, all above 0."""
    if "weight" in numbers:
        n, _, h, w = numbers["input"]
        o, c, kh, kw = numbers["weight"]
        return [n**_OF_BATCH, h * w, o, c, kh * kw]
    if "output_size" in numbers:
        n, c, h, w = numbers["input"]
        return [c, n * h * w, numbers["boxes"][0], math.prod(numbers["output_size"])]
    if "iou_threshold" in numbers:
        return [numbers["boxes"][0], numbers["iou_threshold"] or 1e-3]
    return [numbers["m"], numbers["n"], numbers["k"]]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
