"""docs/gpu.md says what the ledger says, and no more."""

from __future__ import annotations

from pathlib import Path

from cvperf.bench import results
from cvperf.bench.results import Measurement
from cvperf.benchmarks import gpu, gpu_page


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


def test_folders_are_named_after_the_device() -> None:
    assert gpu.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
