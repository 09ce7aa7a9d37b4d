"""What a launch would run is compiled and read without a GPU, and can be made ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cvperf.backends import tuning
from cvperf.backends.cuda import build, cache, shipped
from cvperf.backends.cuda.kernel import Kernel
from cvperf.backends.cuda.launch import launch
from cvperf.backends.cuda.offline import compiling
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.shipped import Call, meta
from cvperf.cli import app

TILE = """\
#include "device.cuh"
__global__ void other(float* x) {
  SHARED(float, much, [4096]);
  much[threadIdx.x] = *x;
  __syncthreads();
  *x = much[31 - threadIdx.x];
}
template <int N> __global__ void __launch_bounds__(32) tile(float* out, const float* in) {
  SHARED(float, numbers, [N]);
  DYNAMIC_SHARED(float, more);
  gpu::copy_async<4>(numbers + threadIdx.x, in + threadIdx.x, true);
  gpu::copy_async_commit();
  gpu::copy_async_wait<0>();
  more[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = numbers[31 - threadIdx.x] + more[31 - threadIdx.x];
}
"""


def run() -> None:
    gpu = machine(meta(1).device)
    size = 64 if gpu.capability >= 90 else 32
    launch(Kernel("tile.cu", f"tile<{size}>"), (2,), 32, meta(32), meta(32), shared_bytes=4096)


@pytest.fixture
def ships(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call that ships."""

    def calls() -> Iterator[Call]:
        yield Call("tile", "of 32 or 64", run, lambda gpu: 0.5)

    (kernels / "tile.cu").write_text(TILE)
    monkeypatch.setattr(shipped, "calls", calls)
    tuning.forget()


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_a_launch_within_tells_what_the_kernel_takes(ships: None, capability: int) -> None:
    with compiling(capability) as compiled:
        run()
    (one,) = compiled
    size = 32 if capability == 80 else 64
    assert one.kernel == "tile"
    assert one.constexprs == {"template": str(size), "fused": True}
    assert one.grid == (2, 1, 1)
    assert one.stack == 0
    assert 0 < one.registers < 40
    # Not that of the kernel beside it in the file, which is in the code too; rounded up, since
    # dynamic shared memory begins at a multiple of 1,024 bytes.
    assert one.static_shared == 1024
    assert one.shared == 1024 + 4096
    assert one.has("LDGSTS")
    assert "LDGSTS" in one.notable
    assert not one.has("IMMA")


def test_what_ships_is_compiled_once_for_each_gpu(ships: None) -> None:
    gpus = [*ARCHITECTURES.values(), replace(ARCHITECTURES[80], capability=86)]
    seen: list[str] = []
    assert build.build(gpus, seen.append) == 4
    assert sorted(seen) == ["tile<32>", "tile<32>", "tile<64>", "tile<64>"]
    assert {one.architecture for one in cache.entries()} == {"sm_80", "sm_86", "sm_90a", "sm_100a"}


def test_the_command_builds_lists_and_clears(ships: None) -> None:
    command = CliRunner()

    def said(*arguments: str) -> str:
        done = command.invoke(app, ["cache", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    assert "2 kernels are compiled for sm_80 (A100), sm_90" in said(
        *("build", "--arch", "80", "--arch", "90")
    )
    tuning.cache_file().write_text('{"a machine": {"a call": {"name": "x", "ms": {"x": 1.0}}}}')
    listed = said("list")
    assert "tile<64>" in listed
    assert "sm_90a" in listed
    assert "2 kernels, " in listed
    assert "1 choices of autotuning in" in listed
    assert "removed 2 compiled kernels and 1 choices" in said("clear")
    assert "0 kernels" in said("list")


def test_a_kernel_that_does_not_compile_ends_the_command(
    ships: None, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernels / "tile.cu").write_text("template <int N> __global__ void tile() { missing; }\n")
    done = CliRunner().invoke(app, ["cache", "build", "--arch", "90"])
    assert done.exit_code == 2
    assert "tile<64> of tile.cu does not compile with -arch=sm_90a" in done.output


def test_without_a_gpu_the_command_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = CliRunner().invoke(app, ["cache", "build"])
    assert done.exit_code == 2
    assert "there is no GPU here" in done.output
