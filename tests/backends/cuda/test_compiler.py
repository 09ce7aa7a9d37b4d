"""Kernels are compiled by NVRTC, for every architecture, and errors tell what is needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import cvperf
from cvperf.backends import cuda
from cvperf.backends.cuda import compiler
from cvperf.backends.cuda.compiler import Request, compile_kernel
from cvperf.backends.cuda.kernel import Kernel
from cvperf.errors import CompileError

SCALE = Kernel("scale.cu", "scale<__nv_bfloat16, 3>")


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [(80, "sm_80"), (86, "sm_86"), (90, "sm_90a"), (100, "sm_100a"), (120, "sm_120")],
)
def test_an_instance_is_compiled_for_an_architecture(
    kernels: Path, capability: int, architecture: str
) -> None:
    request = Request.of(SCALE, capability)
    made = compile_kernel(request)
    assert request.architecture == architecture
    assert made.code.startswith(b"\x7fELF")
    assert made.symbol == "_Z5scaleI13__nv_bfloat16Li3EEvPT_PKS1_ifx"
    assert made.symbol.encode() in made.code


def test_the_architecture_is_a_macro(kernels: Path) -> None:
    (kernels / "scale.cu").write_text(
        "#if CVPERF_ARCH != 90\n#error another\n#endif\n__global__ void f() {}\n"
    )
    compile_kernel(Request.of(Kernel("scale.cu", "f"), 90))
    with pytest.raises(CompileError, match="another"):
        compile_kernel(Request.of(Kernel("scale.cu", "f"), 80))


def test_a_product_and_a_sum_round_once_or_twice(kernels: Path) -> None:
    (kernels / "scale.cu").write_text(
        "__global__ void f(float* x) { x[0] = x[1] * x[2] + x[3]; }\n"
    )
    once, twice = (
        compile_kernel(Request.of(Kernel("scale.cu", "f", fused=fused), 80))
        for fused in (True, False)
    )
    assert once.code != twice.code


def test_an_error_shows_kernel_options_and_log(kernels: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compile_kernel(Request.of(Kernel("wrong.cu", "wrong", fused=False), 90))
    message = str(caught.value)
    assert message.startswith(
        "wrong of wrong.cu does not compile with -arch=sm_90a -std=c++17 -fmad=false -lineinfo "
        "-DCVPERF_ARCH=90 by nvrtc "
    )
    assert 'wrong.cu(1): error: identifier "missing" is undefined' in message


def test_a_name_that_no_kernel_has_is_an_error(kernels: Path) -> None:
    with pytest.raises(CompileError, match="missing<3>"):
        compile_kernel(Request.of(Kernel("scale.cu", "missing<3>"), 90))


def test_included_files_of_the_folder_are_sources_too(kernels: Path) -> None:
    (kernels / "factor.cuh").write_text('#include "more.cuh"\n#define FACTOR MORE\n')
    (kernels / "more.cuh").write_text('#include "factor.cuh"\n#define MORE 1\n')
    compiler._text.cache_clear()
    assert compiler.sources("scale.cu").keys() == {
        *("scale.cu", "device.cuh", "factor.cuh", "more.cuh")
    }


def test_without_cuda_core_the_error_names_the_extra(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    compiler._imported.cache_clear()
    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(cvperf.UnsupportedError, match=r"pip install 'cvperf\[cuda13\]'"):
        compile_kernel(Request.of(SCALE, 90))
    compiler._imported.cache_clear()


def test_without_cuda_core_the_registry_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda, "emulated", lambda: False)
    monkeypatch.setattr(cuda, "unavailable_gpu", lambda capability: None)
    assert cuda.unavailable(80) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cvperf[cuda13]'" in str(cuda.unavailable(80))


def test_without_headers_the_error_names_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda import pathfinder

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(pathfinder, "find_nvidia_header_directory", lambda name: None)
    compiler.headers.cache_clear()
    with pytest.raises(cvperf.UnsupportedError, match="pip install 'nvidia-cuda-runtime=="):
        compiler.headers()
    compiler.headers.cache_clear()


_FOUR_THREADS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from cvperf.backends.cuda import compiler
together = Barrier(4)
def ask(_):
    together.wait()
    return compiler.compiler()
with ThreadPoolExecutor(4) as pool:
    print(len(set(pool.map(ask, range(4)))))
"""


def test_threads_that_begin_together_find_the_whole_of_cuda_core() -> None:
    """Half-imported it passed for an old version; in a process that has not imported it yet."""
    done = subprocess.run(
        [sys.executable, "-c", _FOUR_THREADS], capture_output=True, text=True, check=False
    )
    assert done.stdout == "1\n", done.stderr
