"""Runs launches of CUDA kernels in the emulator of ``kernels/emulator``: builds each, calls it.

The emulator is built by g++ once, a kernel when it is first launched; both are kept in
``build/emulator`` under a hash of everything they are made from.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvperf import _C
from cvperf.backends.cuda.compiler import sources as sources_of
from cvperf.backends.cuda.launch import Kernel, diverting

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "kernels"
BUILD = ROOT / "build/emulator"
SANITIZER = os.environ.get("CVPERF_EMULATOR_SANITIZER", "")
"""``address`` or ``thread``: the process must have that sanitizer's library loaded first."""

FLAGS = [
    *("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"),
    # A kernel shares the emulator's state with nobody.
    *("-fvisibility=hidden", "-fno-gnu-unique"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-psabi"),
    *([f"-fsanitize={SANITIZER}", "-fno-omit-frame-pointer", "-g1"] if SANITIZER else []),
]
# AddressSanitizer's checks of a kernel take longest to optimise, and little of the time to run.
KERNEL_FLAGS = [*FLAGS, "-O0" if SANITIZER == "address" else "-O1"]


@dataclass(frozen=True)
class Schedule:
    """What a GPU leaves open: who runs first, and when asynchronous copies land."""

    order: str
    late_copies: bool
    seed: int = 1

    def __str__(self) -> str:
        seed = f" {self.seed}" if self.order == "random" else ""
        return f"{self.order}{seed}, {'late' if self.late_copies else 'early'} copies"


ORDERS = (("forward", 1), ("reverse", 1), ("random", 1), ("random", 2), ("random", 3))
ALL_SCHEDULES = [Schedule(order, late, seed) for order, seed in ORDERS for late in (False, True)]
# What a sanitizer finds does not depend on the order in which threads happen to run. A copy that
# lands early is a race with those who still read what was there.
_SANITIZED = {"address": [ALL_SCHEDULES[0], ALL_SCHEDULES[-1]], "thread": [ALL_SCHEDULES[4]]}
SCHEDULES = _SANITIZED.get(SANITIZER, ALL_SCHEDULES)


class EmulationError(Exception):
    """The emulator found a fault: a deadlock, a divergent barrier, a write beside an array."""


class _Dim3(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]


class _Schedule(ctypes.Structure):
    _fields_ = [("order", ctypes.c_int), ("late", ctypes.c_int), ("seed", ctypes.c_uint64)]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", _Dim3),
        ("threads", _Dim3),
        ("shared_bytes", ctypes.c_uint),
        ("arguments", ctypes.c_char_p),
        ("argument_bytes", ctypes.c_size_t),
        ("schedule", _Schedule),
    ]


_schedules = [SCHEDULES[0]]
_sources = [SOURCES]


@contextmanager
def emulating(schedule: Schedule, capability: int) -> Iterator[None]:
    """Launches within run in the emulator, as on an sm_``capability`` GPU."""

    def run(
        kernel: Kernel,
        grid: tuple[int, int, int],
        threads: tuple[int, int, int],
        shared_bytes: int,
        arguments: tuple[Any, ...],
    ) -> None:
        packed = _C.pack_arguments(arguments)
        order = ("forward", "reverse", "random").index(schedule.order)
        call = _Launch(
            *(_Dim3(*grid), _Dim3(*threads), shared_bytes, packed, len(packed)),
            _Schedule(order, schedule.late_copies, schedule.seed),
        )
        message = _function(kernel, capability, _sources[-1])(ctypes.byref(call))
        if message is not None:
            raise EmulationError(message.decode())

    with diverting(run):
        yield


@contextmanager
def sources(folder: Path) -> Iterator[None]:
    """Kernels within are built from this folder, which is like ``kernels``."""
    _sources.append(folder)
    try:
        yield
    finally:
        _sources.pop()


@functools.cache
def _function(kernel: Kernel, capability: int, folder: Path) -> Any:
    function = ctypes.CDLL(str(_built(kernel, capability, folder))).emulate
    function.restype = ctypes.c_char_p
    return function


def _built(kernel: Kernel, capability: int, folder: Path) -> Path:
    """The library of one kernel."""
    text = f'#include "emulator.hpp"\n#include "{kernel.file}"\nEMULATE({kernel.name})\n'
    flags = [*KERNEL_FLAGS, f"-DCVPERF_ARCH={capability}"]
    made_from = [
        text,
        *flags,
        _emulator_source(),
        *sources_of(kernel.file, folder / "cuda").values(),
    ]
    library = BUILD / f"{_key(made_from)}.so"
    if library.exists():
        return library
    precompiled = _precompiled(tuple(flags))
    source = library.with_suffix(".cpp")
    source.write_text(text)
    include = [f"-I{path}" for path in (precompiled, folder / "cuda")]
    done = _compile([*flags, *include, "-shared", str(source), str(_emulator_object())], library)
    if done.returncode != 0:
        raise EmulationError(f"{kernel} does not compile for the emulator:\n{done.stderr[:4000]}")
    return library


@functools.cache
def _precompiled(flags: tuple[str, ...]) -> Path:
    """A folder whose ``emulator.hpp`` is the emulator, parsed once for all kernels."""
    folder = BUILD / _key([*flags, _emulator_source()])
    header = folder / "emulator.hpp"
    if not header.with_suffix(".hpp.gch").exists():
        folder.mkdir(parents=True, exist_ok=True)
        header.write_text(f'#include "{SOURCES / "emulator/emulator.hpp"}"\n')
        done = _compile([*flags, "-x", "c++-header", str(header)], header.with_suffix(".hpp.gch"))
        done.check_returncode()
    return folder


@functools.cache
def _emulator_object() -> Path:
    """What all kernels link with."""
    linked = BUILD / f"{_key([*FLAGS, _emulator_source()])}.o"
    if not linked.exists():
        files = [str(file) for file in sorted(SOURCES.glob("emulator/*.cpp"))]
        _compile([*FLAGS, "-O1", "-r", "-nostdlib", *files], linked).check_returncode()
    return linked


def _compile(arguments: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    """Written aside, then renamed: several processes may build the same."""
    aside = out.with_name(f"{out.name}.{os.getpid()}")
    command = ["g++", *arguments, "-o", str(aside)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        aside.replace(out)
    return done


def _key(made_from: list[str]) -> str:
    return hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:24]


@functools.cache
def _emulator_source() -> str:
    return "\0".join(file.read_text() for file in sorted(SOURCES.glob("emulator/*.?pp")))
