"""The part of the environment that every result row records."""

from __future__ import annotations

import datetime
import functools
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cvperf import _C
from cvperf.backends.processor import cpu_name

_VERSIONS = ("cvperf", "torch", "torchvision", "triton", "cupy-cuda12x", "cupy-cuda13x", "numpy")


def record(device: str = "cpu") -> dict[str, str]:
    """Processor or GPU, driver, clocks, threads, versions, compiler and commit, as name -> text."""
    facts = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "isa": _C.isa(),
        "threads": str(torch.get_num_threads()),
        "cpu_mhz": _cpu_mhz(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "compiler": _C.compiler,
        "commit": commit(),
        **{name: text for name in _VERSIONS if (text := _version(name))},
    }
    if device == "cuda":
        facts |= _gpu()
    return facts


@functools.cache
def commit() -> str:
    """The git commit of the sources, with ``+changes`` if they differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "not a checkout"
    name = _output("git", "-C", str(root), "rev-parse", "--short", "HEAD")
    # Results themselves are written into the tree; only sources count as changes.
    changed = _output(
        "git", "-C", str(root), "status", "--porcelain", "--", "cvperf", "kernels", "csrc"
    )
    return name + ("+changes" if changed else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_mhz() -> str:
    """The clock of each processor now; it moves with load and temperature."""
    lines = Path("/proc/cpuinfo")
    if not lines.exists():
        return "unknown"
    clocks = [line for line in lines.read_text().splitlines() if line.startswith("cpu MHz")]
    values = sorted(float(line.split(":")[1]) for line in clocks)
    return f"{values[0]:.0f} to {values[-1]:.0f}" if values else "unknown"


def _gpu() -> dict[str, str]:
    properties = torch.cuda.get_device_properties(0)
    query = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit"
    told = _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    names = ("driver", "gpu_clock", "gpu_clock_max", "gpu_memory_clock", "gpu_power_limit")
    return {
        "gpu": properties.name,
        "gpu_capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        **dict(zip(names, told.split(", "), strict=False)),
    }


def _output(*command: str) -> str:
    """What a command prints; "unknown" where there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (FileNotFoundError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
