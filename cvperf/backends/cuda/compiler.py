"""Compiling a kernel: NVRTC through ``cuda.core``. Takes neither a GPU, a driver nor nvcc."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from cvperf import kernels
from cvperf.backends.cuda.kernel import Kernel
from cvperf.errors import CompileError, UnsupportedError

SOURCES = Path(kernels.__path__[0]) / "cuda"
"""The folder of the kernels."""

WITH_FEATURES = {90: "sm_90a", 100: "sm_100a"}
"""Capability -> the architecture with all of its instructions (wgmma, TMA); others are plain."""

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"/]+)"', re.MULTILINE)


def architecture(capability: int) -> str:
    """What a kernel for this capability is compiled for: ``sm_90a`` for 90."""
    return WITH_FEATURES.get(capability, f"sm_{capability}")


@dataclass(frozen=True)
class Request:
    """A kernel, and everything that decides what it compiles to.

    Attributes:
        kernel: which.
        architecture: such as ``sm_90a``.
        macros: defined for its source.
        sources: file -> text, of its own file and of all that it includes from the folder.
        compiler: name and version.
    """

    kernel: Kernel
    architecture: str
    macros: tuple[str, ...]
    sources: dict[str, str] = field(repr=False)
    compiler: str

    @classmethod
    def of(cls, kernel: Kernel, capability: int) -> Request:
        """A kernel for a GPU of this capability, 90 for sm_90."""
        return cls(
            kernel,
            architecture(capability),
            (f"CVPERF_ARCH={capability}",),
            sources(kernel.file),
            compiler(),
        )

    @property
    def options(self) -> tuple[str, ...]:
        """The options in NVRTC's spelling, without the folders of headers."""
        macros = (f"-D{macro}" for macro in self.macros)
        fused = "true" if self.kernel.fused else "false"
        return f"-arch={self.architecture}", "-std=c++17", f"-fmad={fused}", "-lineinfo", *macros


@dataclass(frozen=True)
class Binary:
    """A compiled kernel.

    Attributes:
        code: for the driver.
        symbol: the function's name in it.
    """

    code: bytes = field(repr=False)
    symbol: str


def compile_kernel(request: Request) -> Binary:
    """Compile one kernel: about a second, which other threads may use.

    Raises:
        CompileError: the kernel does not compile, with the compiler's log.
        UnsupportedError: ``cuda.core``, NVRTC or CUDA's headers are missing; says what to install.
    """
    core, kernel = _core(), request.kernel
    options = core.ProgramOptions(
        name=kernel.file,
        arch=request.architecture,
        std="c++17",
        fma=kernel.fused,
        lineinfo=True,  # costs nothing at run time, and profilers and sanitizers show it
        define_macro=list(request.macros),
        include_path=[str(SOURCES), str(headers())],
    )
    try:
        program = core.Program(request.sources[kernel.file], "c++", options)
        made = program.compile("cubin", name_expressions=(kernel.name,))
    except _error(core) as error:
        raise CompileError(
            f"{kernel.name} of {kernel.file} does not compile with {' '.join(request.options)} "
            f"by {request.compiler}:\n{error}"
        ) from error
    # Its name before 1.0.
    symbols = made.symbol_mapping if hasattr(made, "symbol_mapping") else made._sym_map
    symbol: bytes = symbols[kernel.name]
    return Binary(bytes(made.code), symbol.decode())


def sources(file: str, folder: Path | None = None) -> dict[str, str]:
    """File -> text, of a file of the kernels' folder and of all that it includes from there."""
    found: dict[str, str] = {}
    awaiting = [file]
    while awaiting:
        name = awaiting.pop()
        if name not in found:
            found[name] = _text((folder or SOURCES) / name)
            awaiting += _INCLUDE.findall(found[name])
    return found


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def compiler() -> str:
    """The compiler's name and version.

    Raises:
        UnsupportedError: it is not installed.
    """
    major, minor = _version()
    return f"nvrtc {major}.{minor}"


@functools.cache
def headers() -> Path:
    """The folder with CUDA's headers of the compiler's own version: cuda_fp16.h and its like.

    Raises:
        UnsupportedError: there is none.
    """
    major, _ = _version()
    for folder in _header_folders(major):
        if (folder / "cuda_fp16.h").is_file():
            return folder
    package = "nvidia-cuda-runtime-cu12" if major == 12 else "nvidia-cuda-runtime"
    raise UnsupportedError(
        f"CUDA's headers (cuda_fp16.h) are needed to compile kernels: pip install '{package}=="
        f"{major}.*', or set CUDA_HOME to a toolkit; torch's CUDA wheels bring them"
    )


def _header_folders(major: int) -> Iterator[Path]:
    found = importlib.util.find_spec("nvidia")
    wheels = (found.submodule_search_locations if found else None) or ()
    for root in wheels:
        # How the wheels lay them out since CUDA 13, and before.
        yield Path(root) / f"cu{major}/include"
        if major == 12:
            yield Path(root) / "cuda_runtime/include"
    from cuda import pathfinder  # a dependency of cuda.bindings; finds conda's and CUDA_HOME's

    if folder := pathfinder.find_nvidia_header_directory("cudart"):
        yield Path(folder)


def _version() -> tuple[int, int]:
    _core()
    from cuda.bindings import nvrtc

    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError as error:  # of cuda.pathfinder, with every place where it looked
        raise UnsupportedError(
            f"NVRTC is needed to compile kernels: {_INSTALL}; {error}"
        ) from error
    if int(status):
        raise UnsupportedError(f"NVRTC does not tell its version: {status}")
    return major, minor


_INSTALL = "pip install 'cvperf[cuda13]' (or 'cvperf[cuda12]' with a torch for CUDA 12)"


def _core() -> Any:
    """``cuda.core``. Threads that import it at once may find half of it, so one does."""
    with _importing:
        return _imported()


_importing = threading.Lock()


@functools.cache
def _imported() -> Any:
    """Before 0.5 its content was in ``cuda.core.experimental``."""
    try:
        core = importlib.import_module("cuda.core")
        return core if hasattr(core, "Program") else _experimental()
    except ImportError as error:
        raise UnsupportedError(
            f"cuda.core is needed to compile kernels: {_INSTALL}; {error}"
        ) from error


def _experimental() -> ModuleType:
    return importlib.import_module("cuda.core.experimental")


def _error(core: ModuleType) -> type[Exception]:
    """What it raises; no version has a public name for it."""
    package = "cuda.core.experimental" if "experimental" in core.__name__ else "cuda.core"
    error: type[Exception] = importlib.import_module(f"{package}._utils.cuda_utils").CUDAError
    return error
