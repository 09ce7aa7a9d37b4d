"""Every kernel that ships compiles with nvcc too, without a warning."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cvperf.backends.cuda import shipped
from cvperf.backends.cuda.kernel import Kernel
from cvperf.backends.cuda.offline import launched
from cvperf.backends.gpu.model import ARCHITECTURES
from tests.kernels.cuda import nvcc

pytest.importorskip("cuda.core", reason="comes with the extra cuda13")

NVCC = nvcc.find()


def files() -> dict[tuple[str, int], list[Kernel]]:
    """(file, capability) -> kernels of it, each once: for the newest GPU that it ships for.

    For all of its GPUs each is compiled by the library that ships; see test_offline.py.
    """
    newest: dict[Kernel, int] = {}
    for capability, gpu in sorted(ARCHITECTURES.items()):
        for kernel in launched(gpu, [call.run for call in shipped.calls()]):
            newest[kernel] = capability
    found: dict[tuple[str, int], list[Kernel]] = {}
    for kernel, capability in newest.items():
        found.setdefault((kernel.file, capability), []).append(kernel)
    return found


FILES = files()


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """(file, capability) -> what nvcc complained of; every processor compiles."""
    if NVCC is None:
        pytest.skip("there is no nvcc: pip install nvidia-cuda-nvcc")
    folder = tmp_path_factory.mktemp("nvcc")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {
            (file, capability): pool.submit(nvcc.compile_file, NVCC, kernels, capability, folder)
            for (file, capability), kernels in FILES.items()
        }
    return {each: run.result() for each, run in runs.items()}


@pytest.mark.parametrize(("file", "capability"), FILES)
def test_it_compiles_with_nvcc(
    file: str, capability: int, complaints: dict[tuple[str, int], str]
) -> None:
    assert not complaints[file, capability], complaints[file, capability]


KERNELS = {
    "right": '#include "device.cuh"\ntemplate <int N> __global__ void f(int* x) { x[0] = N; }\n',
    "unused": "template <int N> __global__ void f(int* x) { int y = N; x[0] = N; }\n",
    "wrong": "template <int N> __global__ void f(int* x) { x[N] = missing; }\n",
}


@pytest.mark.parametrize("kind", KERNELS)
def test_nvcc_instantiates_what_it_is_given(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NVCC is None:
        pytest.skip("there is no nvcc: pip install nvidia-cuda-nvcc")
    sources = tmp_path / "kernels"
    sources.mkdir()
    (sources / "device.cuh").write_text((nvcc.compiler.SOURCES / "device.cuh").read_text())
    (sources / "f.cu").write_text(KERNELS[kind])
    monkeypatch.setattr(nvcc.compiler, "SOURCES", sources)
    kernels = [Kernel("f.cu", "f<3>"), Kernel("f.cu", "f<4>", fused=False)]
    said = nvcc.compile_file(NVCC, kernels, 90, tmp_path)
    if kind == "right":
        assert not said
        code = (tmp_path / "f_90.cubin").read_bytes()
        assert b"_Z1fILi3EEvPi" in code
        assert b"_Z1fILi4EEvPi" in code
    else:
        assert {"unused": "never referenced", "wrong": '"missing" is undefined'}[kind] in said
