"""The native build: compiles for aarch64, and no instruction set leaks into another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = sorted((ROOT / "kernels" / "cpu").glob("*.cpp"))


@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.name)
def test_kernels_compile_for_aarch64(source: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"),
        *("-std=c++17", "-O1", "-fopenmp"),
        *("-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"),
        "-Wno-bitwise-instead-of-logical",  # & on purpose, where a branch would cost more
        *("-DCVPERF_ISA=scalar", "-DCVPERF_VECTOR_BYTES=16"),
        *("-c", str(source), "-o", str(tmp_path / "kernel.o")),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


def test_no_symbol_is_shared_between_instruction_sets() -> None:
    # Of a weak symbol without the instruction set in its name (a template, an inline function) the
    # linker keeps one copy for all: the AVX-512 one could then run on a machine without it.
    objects = [
        path
        for path in (ROOT / "build").glob("*/CMakeFiles/kernels_*.dir/kernels/cpu/*.o")
        if "asan" not in path.parts and "kernels_common.dir" not in path.parts
    ]
    assert objects, "no object files under build/: install with pip install -e ."
    for path in objects:
        names = re.search(r"kernels_(\w+)\.dir", str(path))
        assert names is not None
        run = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True)
        symbols = run.stdout
        leaked = [line for line in symbols.splitlines() if re.search(r" [WVu] ", line)]
        # The personality routine of exceptions is libstdc++'s own, for every caller.
        allowed = (f"cvperf::{names[1]}::", "DW.ref.__gxx_personality_v0")
        leaked = [line for line in leaked if not any(name in line for name in allowed)]
        assert not leaked, f"{path.name} for {names[1]}: {leaked[:5]}"
