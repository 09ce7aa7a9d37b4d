"""The ledger's rows of GPUs -> ``cvperf/backends/gpu/crossovers.jsonl``, which choices read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from cvperf.backends.gpu.calls import kind_of_convolution
from cvperf.backends.gpu.crossovers import FILE, Crossover
from cvperf.backends.registry import ORIGINAL
from cvperf.bench import results
from cvperf.bench.results import Measurement

OURS = {"cvperf cuda": "cuda", "cvperf triton": "triton"}
"""Contender -> its backend."""

# What runs where cvperf does not. torch takes cuDNN's first guess or, asked to, searches.
_ORIGINALS = ("torch", "torchvision", "cudnn")


def write(ledger: Path, file: Path = FILE) -> None:
    """Derive the crossovers of a folder of results, one folder in it for each device."""
    lines = (json.dumps(asdict(line)) + "\n" for line in crossovers(ledger))
    file.write_text("".join(lines))


def crossovers(ledger: Path) -> list[Crossover]:
    """One line for each case and GPU in which one of our kernels took part."""
    races: dict[tuple[str, ...], list[Measurement]] = {}
    for file in sorted(ledger.glob("*/kernels.jsonl")):
        for row in results.read(file):
            if (row.suite, row.device) == ("kernels", "cuda"):
                races.setdefault((row.environment["gpu"], *row.race), []).append(row)
    lines = [_crossover(rows) for _, rows in sorted(races.items())]
    return [line for line in lines if set(line.ms) & {*OURS.values()} or line.wrong]


def _crossover(rows: Sequence[Measurement]) -> Crossover:
    ours = [row for row in rows if row.contender in OURS]
    some = (ours or rows)[0]
    major, minor = some.environment["gpu_capability"].split(".")
    timed = {OURS[row.contender]: row for row in ours if row.status == "ok"}
    if originals := _originals(rows):
        timed[ORIGINAL] = min(originals, key=lambda row: row.time_ms)
    return Crossover(
        gpu=some.environment["gpu"],
        capability=10 * int(major) + int(minor),
        op=some.op,
        dtype=some.dtype,
        layout="channels_last" if some.layout == "channels_last" else "contiguous",
        kind=_kind(some),
        case=some.case,
        size=some.size,
        ms={who: row.time_ms for who, row in timed.items()},
        host_us={who: row.host_us or 0.0 for who, row in timed.items()},
        wrong={
            OURS[row.contender]: f"{_SAID[row.status]}: {row.note}"
            for row in ours
            if row.status in _SAID
        },
    )


def _kind(row: Measurement) -> str:
    if "weight" not in row.shape:
        return ""
    return kind_of_convolution(row.shape["weight"], row.shape["groups"])


_SAID = {"wrong": "it was wrong", "failed": "it failed"}


def _originals(rows: Iterable[Measurement]) -> list[Measurement]:
    """Those with a time, but for calls with an activation, which the drop-in does not fuse."""
    return [
        row
        for row in rows
        if row.contender in _ORIGINALS
        and row.status == "ok"
        and row.shape.get("activation") is None
    ]
