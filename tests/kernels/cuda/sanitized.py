"""Runs a command with emulated kernels under a sanitizer: ``python -m tests.kernels.cuda.sanitized
address -m pytest ...`` (or ``thread``) runs this Python with the rest as its arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

LIBRARIES = {"address": ("libasan.so", "libstdc++.so"), "thread": ("libtsan.so", "libstdc++.so")}
OPTIONS = {
    # torch leaks at exit by design.
    "address": {"ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1"},
    # Only the kernels are built with the sanitizer; what torch does among its threads is its own.
    "thread": {"TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:report_bugs=1"},
}


def command(sanitizer: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """This Python with these arguments under the sanitizer, and its environment."""
    libraries = [_library(name) for name in LIBRARIES[sanitizer]]
    environment = {
        **os.environ,
        **OPTIONS[sanitizer],
        "LD_PRELOAD": " ".join(libraries),
        "CVPERF_EMULATE_CUDA": "1",
        "CVPERF_EMULATOR_SANITIZER": sanitizer,
        "OMP_NUM_THREADS": "1",
    }
    # ThreadSanitizer wants addresses that are not randomised too widely.
    prefix = ["setarch", "-R"] if sanitizer == "thread" and _may_fix_addresses() else []
    return [*prefix, sys.executable, *arguments], environment


def _library(name: str) -> str:
    """Where the compiler has it: the sanitizer must be the first library of a process."""
    found = subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def _may_fix_addresses() -> bool:
    if shutil.which("setarch") is None:
        return False
    tried = subprocess.run(["setarch", "-R", "true"], capture_output=True, check=False)
    return tried.returncode == 0


if __name__ == "__main__":
    program, variables = command(sys.argv[1], sys.argv[2:])
    os.execvpe(program[0], program, variables)
