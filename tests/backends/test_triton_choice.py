"""Which configuration a Triton kernel runs with, what it should take, and who serves a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cvperf
from cvperf.backends import registry, triton, tuning
from cvperf.backends.gpu import configs
from cvperf.backends.gpu.configs import Config, Space, bucket, forcing
from cvperf.backends.gpu.model import (
    A100,
    ARCHITECTURES,
    B200,
    H100,
    LAUNCH_S,
    Tiles,
    family,
    seconds,
)
from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.triton.configs import config_for

SMALL, LARGE, HUGE = (Config.of(4, 3, BM=size) for size in (16, 64, 256))
SPACE = Space(
    "made_up",
    shipped={one: {"few": SMALL, "many": LARGE} for one in ARCHITECTURES},
    shared_bytes=lambda config: 1000 * config["BM"],
    more={90: (HUGE,)},
)


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A made-up GPU on which large tiles are fast; the configurations that it has run."""
    ran: list[str] = []

    def clock(too_large: object, run: Callable[[], object], times: int) -> float:
        run()
        return 1e-3 / len(ran[-1]) / (3 if "64" in ran[-1] else 1)

    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path))
    monkeypatch.setattr(configs, "_can_measure", lambda backend: True)
    monkeypatch.setattr(configs, "_machine", lambda device, compiler: "a made-up GPU")
    monkeypatch.setattr(configs, "_gpu_seconds", clock)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    tuning.forget()
    return ran


def pick(ran: list[str], call: str = "a call") -> Config:
    return config_for(SPACE, "few", call, H100, predicted, lambda config: ran.append(str(config)))


def predicted(config: Config) -> float:
    return float(config["BM"])


def test_what_ships_is_taken_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPERF_AUTOTUNE", "0")
    ran: list[str] = []
    assert pick(ran) == SMALL
    with forcing("many"):
        assert pick(ran) == LARGE
    assert not ran


def test_the_fastest_is_measured_once_and_kept_in_the_file(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPERF_AUTOTUNE", "1")
    assert pick(measured) == LARGE
    runs = len(measured)
    assert pick(measured) == LARGE
    tuning.forget()  # as in another process
    assert pick(measured) == LARGE
    assert len(measured) == runs
    assert "a made-up GPU" in tuning.cache_file().read_text()
    pick(measured, "another call")
    assert len(measured) > runs


def test_only_the_likely_ones_are_measured_unless_all_are_asked_for(
    measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "MEASURED", 2)
    monkeypatch.setenv("CVPERF_AUTOTUNE", "1")
    pick(measured)
    assert set(measured) == {str(SMALL), str(LARGE)}
    monkeypatch.setenv("CVPERF_AUTOTUNE", "full")
    tuning.forget()
    pick(measured, "a second call")
    assert set(measured) == {str(SMALL), str(LARGE)}  # HUGE does not fit: 256,000 bytes
    monkeypatch.setattr(configs, "MEASURED", 1)
    monkeypatch.setenv("CVPERF_AUTOTUNE", "1")
    measured.clear()
    pick(measured, "a third call")
    assert set(measured) == {str(SMALL)}


def test_a_smaller_gpu_takes_what_fits_or_says_so() -> None:
    tight = replace(A100, capability=89, shared_bytes=20_000)
    assert SPACE.default(tight, "many") == SMALL
    with pytest.raises(cvperf.UnsupportedError, match="no configuration fits 10 bytes"):
        SPACE.default(replace(A100, shared_bytes=10), "many")


def test_sizes_share_a_measurement_up_to_the_next_power_of_two() -> None:
    assert bucket(1, 1000, 1024, 1025) == "1x1024x1024x2048"


def test_gpus_start_from_the_architecture_below_them() -> None:
    assert [family(one) for one in (75, 80, 86, 89, 90, 100, 103, 120)] == [
        *(80, 80, 80, 80, 90, 100, 100, 100)
    ]


def test_the_model_counts_whole_waves() -> None:
    def took(count: int) -> float:
        return seconds(H100, Tiles(count, 1e9, "int8", l2_bytes=0, memory_bytes=0))

    assert took(133) == pytest.approx(took(264))
    assert took(132) < took(133)
    assert took(0) == LAUNCH_S


def test_the_registry_says_what_would_make_triton_serve_a_call() -> None:
    with (
        registry.prefer("triton"),
        pytest.raises(cvperf.UnsupportedError, match="takes cuda tensors") as caught,
    ):
        cvperf.ops.int8_gemm(torch.zeros(2, 2, dtype=torch.int8), torch.zeros(2, 2).char())
    assert "triton" in str(caught.value)
    if not torch.cuda.is_available():
        assert "needs a CUDA GPU" in str(triton.unavailable(80))


def test_without_triton_the_reason_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install triton" in str(triton.unavailable(80))


@pytest.mark.parametrize("gpu", [A100, H100, B200], ids=lambda gpu: gpu.name)
def test_int8_gemm_is_predicted_above_its_roofline_and_large_tiles_win_large_products(gpu) -> None:
    pytest.importorskip("triton")
    from cvperf.backends.triton import int8_gemm

    for kind in int8_gemm.SPACE.shipped[gpu.capability]:
        for size in ((1, 4096, 4096), (512, 512, 512), (8192, 8192, 8192)):
            assert 0 < int8_gemm.predicted_share(gpu, kind, *size, 2) <= 1
    assert int8_gemm._kind(gpu, 8192, 8192, 8192, 2) == "large"
    assert int8_gemm._kind(gpu, 4, 4096, 4096, 2) == "few"


@pytest.mark.parametrize("gpu", [A100, H100, B200], ids=lambda gpu: gpu.name)
def test_every_call_that_ships_is_predicted_above_its_roofline(gpu) -> None:
    pytest.importorskip("triton")
    from cvperf.backends.triton import shipped

    for call in shipped.calls():
        assert 0 < call.share(gpu) <= 1, f"{call.op}, {call.name}"


def test_the_levels_of_boxes_take_as_many_launches_as_the_model_counts() -> None:
    pytest.importorskip("triton")
    from cvperf.backends.triton.roi_sampling import LEVELS_S

    class Launches(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            outputs = out if isinstance(out, (tuple, list)) else (out,)
            on_gpu = any(isinstance(one, torch.Tensor) and one.is_meta for one in outputs)
            self.count += on_gpu and not func.is_view
            return out

    boxes = torch.empty(8, 5, device="meta")
    with Launches() as launches:
        pyramid_levels(boxes, [0.25, 0.125], 224.0, 4)
    assert launches.count * LAUNCH_S == pytest.approx(LEVELS_S)
