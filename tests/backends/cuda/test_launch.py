"""The way of a launch: compiled, loaded, packed and handed to a driver that runs nothing."""

from __future__ import annotations

import statistics
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import cvperf
from cvperf.backends.cuda.driver import Driver
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.model import A100, H100
from cvperf.errors import LaunchError
from tests.backends.cuda.stand_in import STREAM, OnGpu, StandIn, standing_in

SCALE = Kernel("scale.cu", "scale<float, 2>")
LIMIT_US = 8.0


def arguments(index: int = 0) -> tuple[object, ...]:
    out, x = (OnGpu(torch.zeros(10), index) for _ in range(2))
    return out, x, 10, 0.5, np.int64(-7)


def test_a_kernel_is_compiled_loaded_and_launched(kernels: Path, driver: StandIn) -> None:
    out, x, *rest = arguments()
    with standing_in(driver, H100):
        launch(SCALE, (3,), 128, out, x, *rest)
        launch(SCALE, (3, 2), 64, out, None, *rest)
    packed = struct.pack("=QQifq", out.address, x.address, 10, 0.5, -7)
    nothing = struct.pack("=QQifq", out.address, 0, 10, 0.5, -7)
    assert driver.calls() == [
        *("retain context of device 0", "use context"),
        *("load, capture mode 2", "find _Z5scaleIfLi2EEvPT_PKS0_ifx", "prepare, capture mode 2"),
        f"launch 3,1,1 of 128,1,1 with 0 bytes on stream {STREAM:#x}, parameters (nil)",
        f"arguments {packed.hex()}",
        f"launch 3,2,1 of 64,1,1 with 0 bytes on stream {STREAM:#x}, parameters (nil)",
        f"arguments {nothing.hex()}",
    ]


def test_a_grid_of_nothing_is_not_launched(kernels: Path, driver: StandIn) -> None:
    with standing_in(driver, H100):
        launch(SCALE, (3, 0), 128, *arguments())
    assert not driver.calls()


def test_shared_memory_is_allowed_once_a_gpu_and_again_when_it_grows(
    kernels: Path, driver: StandIn
) -> None:
    with standing_in(driver, H100):
        for index, size in ((0, 100_000), (0, 100_000), (0, 50_000), (0, 200_000), (1, 60_000)):
            launch(SCALE, (1,), 32, *arguments(index), shared_bytes=size)
    asked = [call for call in driver.calls() if call.startswith("attribute")]
    assert asked == [
        "attribute 8 of device 0: 100000",
        "attribute 8 of device 0: 200000",
        "attribute 8 of device 1: 60000",
    ]


def test_another_gpu_is_changed_to_and_shares_the_loaded_code(
    kernels: Path, driver: StandIn
) -> None:
    with standing_in(driver, H100) as changes:
        launch(SCALE, (1,), 32, *arguments(0))
        launch(SCALE, (1,), 32, *arguments(1))
        launch(SCALE, (1,), 32, *arguments(1))
    calls = driver.calls()
    assert changes == [1, 1]
    assert sum(call.startswith("load") for call in calls) == 1
    assert sum(call.startswith("prepare") for call in calls) == 2
    assert any(f"stream {STREAM + 1:#x}" in call for call in calls)


def test_a_thread_that_has_not_used_the_gpu_gets_its_context(
    kernels: Path, driver: StandIn
) -> None:
    with standing_in(driver, H100):
        launch(SCALE, (1,), 32, *arguments())
        before = len(driver.calls())
        thread = threading.Thread(target=launch, args=(SCALE, (1,), 32, *arguments()))
        thread.start()
        thread.join()
    after = [call.split()[0] for call in driver.calls()[before:]]
    assert after == ["retain", "use", "launch", "arguments"]


def test_a_refused_launch_says_what_was_asked_for_and_why(kernels: Path, driver: StandIn) -> None:
    with standing_in(driver, H100):
        driver.refuse(701)
        with pytest.raises(LaunchError) as caught:
            launch(SCALE, (3, 2), 2048, *arguments(), shared_bytes=4096)
        driver.refuse(999)
        with pytest.raises(LaunchError, match="CUresult 999"):
            launch(SCALE, (1,), 32, *arguments())
    assert str(caught.value) == (
        "scale<float, 2> of scale.cu was not launched on GPU 0 with grid (3, 2, 1), 2048 threads "
        "and 4096 bytes of dynamic shared memory: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many "
        "resources requested for launch"
    )


def test_more_shared_memory_than_there_is_says_so(kernels: Path, driver: StandIn) -> None:
    with (
        standing_in(driver, H100),
        pytest.raises(LaunchError, match=r"scale<float, 2> .* 300000 bytes .*: invalid argument"),
    ):
        launch(SCALE, (1,), 32, *arguments(), shared_bytes=300_000)


def test_each_architecture_has_code_of_its_own(kernels: Path, driver: StandIn) -> None:
    for gpu in (A100, H100):
        with standing_in(driver, gpu):
            launch(SCALE, (1,), 32, *arguments())
    assert len(list((kernels.parent / "cache/cuda").glob("*.cubin"))) == 2


def test_tensors_must_be_on_a_gpu(kernels: Path, driver: StandIn) -> None:
    with standing_in(driver, H100):
        with pytest.raises(cvperf.ArgumentError, match="runs on a GPU, got a tensor on cpu"):
            launch(SCALE, (1,), 32, torch.zeros(3))
        with pytest.raises(cvperf.ArgumentError, match="got no tensor"):
            launch(SCALE, (1,), 32, 3)


def test_without_a_driver_the_error_says_so() -> None:
    with pytest.raises(cvperf.UnsupportedError, match="need NVIDIA's driver"):
        Driver("libno-such-driver.so.1")


def test_a_launch_costs_microseconds(kernels: Path, driver: StandIn) -> None:
    """The driver's own time is not in it, but that of a tensor's address in Python is."""
    args = arguments()
    with standing_in(driver, H100):
        launch(Kernel("scale.cu", "scale<float, 2>"), (3,), 128, *args, shared_bytes=1024)
        driver.reset(logs=False)
        launch(Kernel("scale.cu", "scale<float, 2>"), (3,), 128, *args, shared_bytes=1024)
        samples = []
        for _ in range(50):
            start = time.perf_counter()
            for _ in range(200):
                launch(Kernel("scale.cu", "scale<float, 2>"), (3,), 128, *args, shared_bytes=1024)
            samples.append((time.perf_counter() - start) / 200 * 1e6)
    fast = statistics.quantiles(samples, n=10)[0]  # other processes slow the others
    print(f"{fast:.2f} us a launch")
    assert fast <= LIMIT_US, f"{fast:.2f} us a launch"
