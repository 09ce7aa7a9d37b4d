"""nvcc as a second compiler: the same sources, the same instantiations, every warning an error."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from cvperf.backends.cuda import compiler
from cvperf.backends.cuda.kernel import Kernel


def find() -> str | None:
    """nvcc: of the wheel ``nvidia-cuda-nvcc``, or the one on the path; None if there is none."""
    found = importlib.util.find_spec("nvidia")
    for root in (found.submodule_search_locations if found else None) or ():
        for path in sorted(Path(root).glob("cu*/bin/nvcc"), reverse=True):
            return str(path)
    return shutil.which("nvcc")


def source(file: str, kernels: Collection[Kernel]) -> str:
    """A file that instantiates these kernels of a file, by taking their addresses."""
    names = "".join(f"    reinterpret_cast<const void*>({one.name}),\n" for one in kernels)
    return f'#include "{file}"\nextern const void* const kernels_[];\n' + (
        f"const void* const kernels_[] = {{\n{names}}};\n"
    )


def compile_file(nvcc: str, kernels: Collection[Kernel], capability: int, folder: Path) -> str:
    """Compile kernels of one file for an architecture in one run; what nvcc complained of."""
    (file,) = {one.file for one in kernels}
    name = f"{Path(file).stem}_{capability}"
    path = folder / f"{name}.cu"
    path.write_text(source(file, kernels))
    architecture = compiler.architecture(capability)
    virtual = architecture.replace("sm_", "compute_")
    command = [
        *(nvcc, "-std=c++17", "-cubin", "-o", str(folder / f"{name}.cubin"), str(path)),
        *("-gencode", f"arch={virtual},code={architecture}", f"-DCVPERF_ARCH={capability}"),
        f"-fmad={'true' if all(one.fused for one in kernels) else 'false'}",
        *("--Werror", "all-warnings", f"-I{compiler.SOURCES}"),
    ]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=folder
    )
    return "" if done.returncode == 0 else f"{' '.join(command)}\n{done.stdout}{done.stderr}"
