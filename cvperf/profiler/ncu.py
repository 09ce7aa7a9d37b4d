"""Hardware counters of a GPU: the target again, under NVIDIA Nsight Compute."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvperf.profiler.bare import RANGE
from cvperf.profiler.target import ProfileError

_SECTIONS = ("SpeedOfLight", "Occupancy", "LaunchStats", "MemoryWorkloadAnalysis")
_METRICS = {
    "Duration": "time",
    "Compute (SM) Throughput": "compute",
    "Memory Throughput": "memory",
    "DRAM Throughput": "DRAM",
    "Achieved Occupancy": "occupancy",
    "Registers Per Thread": "registers",
}
"""Metric as ncu names it -> column."""
_LAUNCHES = 200
"""Kernels measured: each is replayed a dozen times."""


class NcuError(ProfileError):
    """ncu is not there, or it failed; the message says what it said."""


@dataclass(frozen=True)
class Counters:
    """One kernel launch; values as ncu prints them, with their units."""

    kernel: str
    values: dict[str, str]


def command(target: Sequence[str], report: Path) -> list[str]:
    """The command line that measures ``target``, a ``cvperf.profiler.bare`` command's arguments.

    It opens in Nsight Compute's window too: ``report`` is its .ncu-rep file.

    Raises:
        NcuError: ncu is not on the PATH.
    """
    ncu = shutil.which("ncu")
    if ncu is None:
        raise NcuError(
            "--ncu needs NVIDIA Nsight Compute: ncu is not on the PATH. It comes with the CUDA "
            "toolkit"
        )
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    return [
        *(ncu, "--nvtx", "--nvtx-include", f"{RANGE}/", "--target-processes", "all"),
        *("--launch-count", str(_LAUNCHES), "--force-overwrite", "--export", str(report)),
        *sections,
        *(sys.executable, "-m", "cvperf.profiler.bare", *target),
    ]


def measure(target: Sequence[str], folder: Path) -> list[Counters]:
    """Run the target under ncu and write its counters into ``folder``/counters.csv.

    Raises:
        NcuError: ncu is not there, or it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "counters.ncu-rep"
    line = command(target, report)
    _run(line)
    text = _table_of(_run([line[0], "--import", str(report), "--csv", "--page", "details"]))
    (folder / "counters.csv").write_text(text)
    return parse(text)


def _run(line: Sequence[str]) -> str:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()[-800:]
        raise NcuError(f"ncu ended with exit code {done.returncode}: {told}")
    return done.stdout


def parse(text: str) -> list[Counters]:
    """The launches of ncu's CSV, in order: a line there is one metric of one launch."""
    launches: dict[str, Counters] = {}
    for line in csv.DictReader(io.StringIO(text)):
        metric = line.get("Metric Name") or ""
        if metric not in _METRICS:
            continue
        launch = launches.setdefault(line["ID"], Counters(line["Kernel Name"], {}))
        value = f"{line['Metric Value']} {line['Metric Unit']}".strip()
        launch.values.setdefault(_METRICS[metric], value)
    return list(launches.values())


def _table_of(output: str) -> str:
    """The table without ncu's own lines around it."""
    lines = output.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if first is None:
        raise NcuError(f"ncu measured no kernel; it said: {output.strip()[-800:]}")
    return "".join(line for line in lines[first:] if line.startswith('"'))
