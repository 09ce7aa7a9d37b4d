"""A detector-shaped net of a few thousand weights, and rows of a made-up ledger."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from cvperf import _C
from cvperf.backends.processor import cpu_name
from cvperf.bench.problems.base import Shape
from cvperf.bench.results import Measurement


class SmallDetector(nn.Module):
    """LeNet's two convolutions, boxes on their features, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()
        )
        self.head = nn.Linear(16 * 9, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image)
        corners = torch.arange(20.0)[:, None].expand(20, 2) % 8
        boxes = torch.cat([corners, corners + 8], 1)
        kept = boxes[nms(boxes, torch.linspace(0, 1, 20), 0.5)]
        rois = torch.cat([torch.zeros(len(kept), 1), kept], 1)
        return self.head(roi_align(features, rois, (3, 3), 0.25, 2).flatten(1))


@pytest.fixture
def model() -> SmallDetector:
    return SmallDetector().eval()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 1, 28, 28)


@pytest.fixture(autouse=True)
def _no_profiler_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.profiler's own, of CUDA that is not there
        yield


@pytest.fixture
def row() -> Callable[..., Measurement]:
    """A row of this machine: ``row(shape, "torch", 2.0)`` took 2 ms."""

    def make(like: Shape, contender: str, ms: float, **changes: Any) -> Measurement:
        facts = {
            "cpu": cpu_name(),
            "isa": _C.isa(),
            "threads": str(torch.get_num_threads()),
        }
        values: dict[str, Any] = {
            "suite": "kernels",
            "op": like.op,
            "case": like.name,
            "contender": contender,
            "status": "ok",
            "device": "cpu",
            "dtype": like.dtype,
            "layout": like.layout,
            "shape": dict(like.numbers),
            "median_ms": ms,
            "n": 1,
            "environment": facts,
        }
        return Measurement(**(values | changes))

    return make
