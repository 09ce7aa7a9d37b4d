"""What a launch of a CUDA kernel costs on the host, without the driver's own time.

``pytest benchmarks/test_launch.py``: the driver is the one of ``tests/backends/cuda``, which runs
nothing, so no GPU is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.model import H100
from tests.backends.cuda.conftest import driver, kernels  # noqa: F401  (fixtures)
from tests.backends.cuda.stand_in import StandIn, standing_in
from tests.backends.cuda.test_launch import arguments


def test_launch(
    kernels: Path,  # noqa: F811
    driver: StandIn,  # noqa: F811
    benchmark: Any,
) -> None:
    args = arguments()

    def call() -> None:
        launch(Kernel("scale.cu", "scale<float, 2>"), (3,), 128, *args, shared_bytes=1024)

    with standing_in(driver, H100):
        call()
        driver.reset(logs=False)
        benchmark.pedantic(call, rounds=200, iterations=200, warmup_rounds=5)
