"""What this machine and installation are: what ``cvperf env`` prints and reports record."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cvperf import _C
from cvperf.backends.processor import cpu_name
from cvperf.backends.registry import Backend, backends

# Features the kernels or the peers choose by, as /proc/cpuinfo spells them.
_FEATURES = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx_vnni", "amx_int8"),
)
_OPTIONAL = {
    "torchvision": "models",
    "rich": "cli",
    "jinja2": "report",
    "triton": None,
    "cuda-core": "cuda13",
}


def collect() -> dict[str, str]:
    """Versions, processor, threads and GPU, as name -> text."""
    return {
        "cvperf": version("cvperf"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        **{name: _package(name, extra) for name, extra in _OPTIONAL.items()},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu features": " ".join(_cpu_features()) or "unknown",
        "instruction set": f"{_C.isa()} (this processor offers {', '.join(_C.available_isas())})",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "openmp": ", ".join(loaded_openmp()) or "none loaded",
        "gpu": _gpu(),
    }


def loaded_openmp() -> list[str]:
    """File names of the OpenMP runtimes in this process; there should be one."""
    paths = {line.split()[-1] for line in _lines("/proc/self/maps") if ".so" in line}
    names = {Path(path).name for path in paths}
    return sorted(name for name in names if name.startswith(("libgomp", "libomp", "libiomp")))


def served() -> list[tuple[str, str, str, str]]:
    """(backend, state, device and dtypes, ops) for each group of ops that share the first three."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for backend in backends():
        takes = f"{backend.device}: {_dtypes(backend.dtypes)}"
        groups.setdefault((backend.name, _state(backend), takes), []).append(backend.op)
    return [(*group, " ".join(ops)) for group, ops in groups.items()]


def _state(backend: Backend) -> str:
    reason = backend.unavailable()
    if reason is not None:
        return reason
    return "ready" if backend.automatic else "by name only: registry.prefer()"


def _dtypes(dtypes: Iterable[torch.dtype]) -> str:
    return " ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _package(name: str, extra: str | None) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        command = f"pip install 'cvperf[{extra}]'" if extra else f"pip install {name}"
        return f"not installed: {command}"


def _cpu_features() -> list[str]:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            present = set(line.split(":", 1)[1].split())
            return [feature for feature in _FEATURES if feature in present]
    return []


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use (torch.cuda.is_available() is False)"
    return torch.cuda.get_device_name()


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
