"""docs/gpu.md says what the ledger says, and no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cvperf.bench import results
from cvperf.bench.results import Measurement
from cvperf.benchmarks import gpu, gpu_page, gpu_predicted
from cvperf.errors import CompileError


def row(contender: str, median_ms: float | None, **changes: object) -> Measurement:
    values: dict[str, object] = {
        "suite": "kernels",
        "op": "nms",
        "case": "1000 uniform",
        "contender": contender,
        "status": "ok" if median_ms is not None else "wrong",
        "device": "cuda",
        "dtype": "float32",
        "layout": "n/a",
        "shape": {"boxes": [1000, 4]},
        "median_ms": median_ms,
        "roofline_share": None if median_ms is None else 0.25,
        "environment": {
            "gpu": "Made-Up GPU",
            "gpu_capability": "9.0",
            "commit": "abc1234",
            "date": "2026-01-02",
        },
    }
    return Measurement(**(values | changes))  # type: ignore[arg-type]


def page(tmp_path: Path, *rows: Measurement) -> str:
    (tmp_path / "kernels/triton").mkdir(parents=True)
    (tmp_path / "kernels/triton/nms.py").touch()
    with results.writer(tmp_path / "benchmarks/results/made-up-gpu/kernels.jsonl") as file:
        for one in rows:
            file.write(one)
    return gpu_page.render(tmp_path / "benchmarks/results")


def test_the_page_is_the_generated_one() -> None:
    assert gpu.PAGE.read_text() == gpu_page.render(gpu.LEDGER), (
        "write it anew: python -m cvperf.benchmarks.gpu --page"
    )


def test_a_kernel_that_ran_is_shown_with_its_ratio_and_the_others_are_not(tmp_path: Path) -> None:
    text = page(
        tmp_path,
        row("torchvision", 3.0),
        row("cvperf triton", 1.0),
        row("torchvision", 1.0, case="10 uniform"),
        row("cvperf triton", 2.0, case="10 uniform"),
    )
    (line,) = [line for line in text.splitlines() if line.startswith("| nms | triton")]
    _, _, _, old, hopper, new, _ = line.split("|")
    assert hopper.strip() == (
        "Made-Up GPU: 2 of 2 shapes right, commit abc1234, 2026-01-02, "
        "ratio 1.22, worst 0.50 (10 uniform), share 25%"
    )
    assert old.strip() == new.strip() == gpu_page.NOT_RUN
    assert "| nms | cuda | no kernel yet |" in text
    assert "| nms | 1000 uniform | float32 | torchvision | 3,000.0 | 25% |" in text


def test_a_wrong_answer_stands_out(tmp_path: Path) -> None:
    text = page(tmp_path, row("torchvision", 3.0), row("cvperf triton", None))
    assert "0 of 1 shapes right" in text
    assert "**wrong: 1000 uniform**" in text


LAYER = {
    "input": [32, 256, 14, 14],
    "weight": [256, 256, 3, 3],
    **{"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1},
}
MAP = {
    **{"input": [1, 256, 200, 336], "boxes": [1000, 5], "output_size": [7, 7]},
    "sampling_ratio": 2,
}
HALF = {"dtype": "float16", "layout": "channels_last"}
MODELLED = {
    "conv2d": {"op": "conv2d", "shape": LAYER, **HALF},
    "its input's gradient": {"op": "conv2d_input_grad", "shape": LAYER, **HALF},
    "its weight's gradient": {"op": "conv2d_weight_grad", "shape": LAYER, **HALF},
    "int8_gemm": {"op": "int8_gemm", "shape": {"m": 4096, "n": 4096, "k": 4096}, "dtype": "int8"},
    "roi_align": {"op": "roi_align", "shape": MAP, **HALF},
    "its gradient": {"op": "roi_align_backward", "shape": MAP, **HALF},
    "nms": {"op": "nms", "shape": {"boxes": [10_000, 4]}},
    "nms_padded": {"op": "nms_padded", "shape": {"boxes": [1000, 4], "images": 8}},
}


@pytest.mark.parametrize("call", MODELLED.values(), ids=list(MODELLED))
def test_a_row_of_the_ledger_has_a_prediction(call: dict[str, object]) -> None:
    old = {"gpu_capability": "8.0"}
    expected = gpu_predicted.seconds(row("cvperf triton", 1.0, **call))
    on_old = gpu_predicted.seconds(row("cvperf triton", 1.0, **call, environment=old))
    assert expected is not None
    assert on_old is not None
    assert 5e-6 < expected < on_old < 1e-3


def test_the_page_holds_the_models_to_what_was_measured(tmp_path: Path) -> None:
    cases = {"small": {"boxes": [1000, 4]}, "large": {"boxes": [10_000, 4]}}
    ours = []
    for (case, shape), factor in zip(cases.items(), (2.0, 8.0), strict=True):
        ms = 1e3 * factor * gpu_predicted.seconds(row("cvperf triton", 1.0, shape=shape))
        ours.append(row("cvperf triton", ms, case=case, shape=shape))
    unmodelled = row("cvperf triton", 1.0, op="paste_masks")
    text = page(tmp_path, *ours, unmodelled, row("torchvision", 9.0, case="small"))
    assert "| nms | 2 | 4.00 | 2.00 (small) | 8.00 (large) |" in text
    assert not any(line.startswith("| paste_masks | 1 |") for line in text.splitlines())


@pytest.mark.parametrize("fault", ["none", "compile", "test", "time"])
def test_both_backends_are_checked_within_the_time_of_all(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def build(gpus: object) -> None:
        if fault == "compile":
            raise CompileError("nms of nms.cu does not compile")

    def run(command: list[str], timeout: float, **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[-1])
        assert 0 < timeout <= gpu.CHECK_S
        if fault == "time":
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, int(fault == "test" and len(ran) == 1))

    monkeypatch.setattr(gpu.build, "build", build)
    monkeypatch.setattr(gpu, "machine", lambda device: None)
    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.check() == (fault == "none")
    assert ran == ["tests/kernels/cuda", "tests/kernels/triton"]
    assert ("nms of nms.cu" in capsys.readouterr().out) == (fault == "compile")


def test_folders_are_named_after_the_device() -> None:
    assert gpu.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
