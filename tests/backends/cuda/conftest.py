"""A folder of kernels for these tests, in place of those that ship, and a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvperf.backends.cuda import compiler
from tests.backends.cuda import stand_in

pytest.importorskip("cuda.core", reason="comes with the extra cuda13")

KERNELS = {
    "scale.cu": """\
#include "device.cuh"
#include "factor.cuh"
template <class T, int TIMES>
__global__ void scale(T* out, const T* in, int n, float by, long long first) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[first + i] = gpu::from_float<T>(gpu::to_float(in[i]) * by * TIMES + FACTOR);
}
""",
    "factor.cuh": "#pragma once\n#define FACTOR 3.0f\n",
    "wrong.cu": "__global__ void wrong(int* out) { *out = missing; }\n",
}


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the kernels."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    for file, text in KERNELS.items():
        (folder / file).write_text(text)
    (folder / "device.cuh").write_text((compiler.SOURCES / "device.cuh").read_text())
    monkeypatch.setattr(compiler, "SOURCES", folder)
    compiler._text.cache_clear()
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> stand_in.StandIn:
    """A driver that runs nothing."""
    return stand_in.StandIn(stand_in.build(tmp_path_factory.mktemp("stand_in")))
