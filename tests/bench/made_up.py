"""Measurements that nobody measured, for the tests of the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvperf.bench.results import Measurement, writer

ENVIRONMENT = {
    "cpu": "Imaginary 9000",
    "isa": "avx2",
    "threads": "2",
    "cpu_mhz": "2000 to 3000",
    "cvperf": "0.1.0",
    "commit": "abc1234",
    "torch": "2.14.1",
}


def row(contender: str = "cvperf", **changes: Any) -> Measurement:
    """A row of nms; give ``samples_ms`` for its times, or a ``status`` that has none."""
    values: dict[str, Any] = {
        "suite": "kernels",
        "op": "nms",
        "case": "uniform 1000",
        "contender": contender,
        "status": "ok",
        "device": "cpu",
        "dtype": "float32",
        "layout": "n/a",
        "shape": {"boxes": [1000, 4]},
        "version": f"{contender} 1.0",
        "error": 0.0,
        "tolerance": 1e-3,
        "bytes": 28_000,
        "size": 1000.0,
        "command": "cvperf bench kernels --op nms --case 'uniform 1000'",
        "environment": ENVIRONMENT,
    } | changes
    if values["status"] == "ok":
        samples = values.setdefault("samples_ms", [2.0] * 10)
        values["median_ms"] = float(np.median(samples))
        values["p20_ms"], values["p80_ms"] = map(float, np.quantile(samples, [0.2, 0.8]))
        values["n"] = len(samples)
    return Measurement(**values)


def race(times_ms: Mapping[str, float], rounds: int = 20, seed: int = 0, **changes: Any) -> list:
    """One row for each contender, its samples about its time: 2 % of noise of its own, and a drift
    of 8 % that all share."""
    random = np.random.default_rng(seed)
    drift = random.normal(0, 0.08, rounds)
    return [
        row(
            name,
            samples_ms=[float(x) for x in ms * np.exp(drift + random.normal(0, 0.02, rounds))],
            **changes,
        )
        for name, ms in times_ms.items()
    ]


def ceilings() -> list[Measurement]:
    """What ``cvperf bench peaks`` writes: one arithmetic rate and two bandwidths."""
    rates = {
        "fma_float32": {"rate": 1e11, "unit": "flop/s"},
        "copy_l2": {"rate": 1e11, "unit": "bytes/s", "level": "L2", "capacity": 2**21},
        "copy_memory": {"rate": 2e10, "unit": "bytes/s", "level": "memory", "capacity": 2**34},
    }
    return [
        row(suite="peaks", op=name, case=name, shape={"threads": 2}, detail=detail)
        for name, detail in rates.items()
    ]


def every_kind() -> list[Measurement]:
    """A file with something of everything: each suite, each status, each verdict."""
    missing = {"status": "missing", "error": None, "note": "not installed: pip install tensorflow"}
    rows = ceilings()
    for i, factor in enumerate((3.0, 1.5, 1.0, 0.5)):
        convolution = {
            "op": "conv2d", "case": f"resnet50 conv{i}", "flop": 10 ** (7 + i), "bytes": 10**6,
            "size": 10.0 ** (7 + i), "error": 1e-7, "peak_bytes": 10**6,
        }  # fmt: skip
        times = {"cvperf": 1.0 * 4**i, "torch": factor * 4**i, "openvino": 4.0 * 4**i}
        rows += race(times, seed=i, **convolution)
        rows.append(row("tensorflow", **convolution | missing))
    rows += race({"cvperf": 1.0, "torchvision": 2.0})
    rows.append(row("opencv", status="wrong", error=0.5, note="the error 0.5 is beyond 0.001"))
    rows.append(row("onnxruntime", status="failed", error=None, note="Error: <b>bold | claim</b>"))
    rows.append(row("openvino", status="unsupported", error=None, note="openvino keeps no order"))
    rows.append(row(case="ours wrong", status="wrong", error=0.2, note="planted"))
    rows += race({"torchvision": 2.0}, case="ours wrong")
    rows += race({"torchvision": 2.0}, case="peer only")
    rows += race({"cvperf": 2.0}, case="alone")
    detail = {
        "weights": "random",
        "throughput": 40.0,
        "share": {"conv2d": 80.0, "nms": 20.0},
        "pictures": [{"caption": "a <grey> square", "png": picture()}],
    }
    rows += race({"cvperf": 20.0, "torch": 30.0}, suite="models", op="resnet50", detail=detail)
    rows += race({"cvperf": 0.004, "torchvision": 0.005}, suite="overhead", case="tiny")
    return rows


def picture() -> str:
    """A PNG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 6), "grey").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def save(path: Path, rows: Iterable[Measurement]) -> Path:
    """``path``, with the rows in it."""
    with writer(path) as file:
        for each in rows:
            file.write(each)
    return path
