"""Soft-NMS in CUDA C++: what the CPU kernel selects, with its scores; linear ones bit for bit."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends.cuda import nms as backend
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, on_cuda
from tests.kernels.cuda.test_nms import crowd

METHODS = ("linear", "gaussian")


def check(
    boxes: Tensor,
    scores: Tensor,
    rtol: float = 1e-5,
    schedules: list[Schedule] = SCHEDULES[:1],
    **keywords: Any,
) -> None:
    expected = ops.soft_nms(boxes, scores, **keywords)
    exact = keywords.get("method", "linear") == "linear"
    for schedule in schedules:
        # Blocks of two warps, so that a hundred boxes are two each.
        with mock.patch.object(backend, "SOFT_THREADS", 64):
            found = on_cuda(ops.soft_nms, boxes, scores, schedule=schedule, **keywords)
        assert found[0].tolist() == expected[0].tolist()
        assert found[1].dtype == scores.dtype
        torch.testing.assert_close(found[1], expected[1], rtol=0 if exact else rtol, atol=0)


def linear() -> None:
    check(*crowd(100), score_threshold=0.2, schedules=SCHEDULES)


def gaussian() -> None:
    check(*crowd(100), method="gaussian", sigma=2.0, max_output=60, schedules=SCHEDULES)


def ties() -> None:
    boxes, scores = crowd(100)
    check(boxes * 9, (scores * 4).round() / 4, max_output=40)


@pytest.mark.parametrize("case", [linear, gaussian, ties], ids=lambda case: case.__name__)
def test_case(case: Any) -> None:
    case()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_half_types_are_scaled_in_float32_and_rounded_once(dtype: torch.dtype, method: str) -> None:
    boxes, scores = crowd(70)
    boxes, scores = (boxes / 2).to(dtype), scores.to(dtype)
    check(boxes, scores, torch.finfo(dtype).eps, method=method, max_output=25)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_nan_or_has_no_area(method: str) -> None:
    wild = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e38, 1e-38])
    boxes, scores = crowd(70)
    picks = torch.randint(0, 8, (70, 5))
    boxes = torch.where(torch.rand(70, 4) < 0.15, wild[picks[:, :4]], boxes)
    scores = torch.where(torch.rand(70) < 0.2, wild[picks[:, 4]], scores)
    check(boxes, scores, method=method, score_threshold=0.0)


@pytest.mark.parametrize("most", [0, 1, 7, 1000])
def test_ends_at_the_number_wanted(most: int) -> None:
    check(*crowd(30), max_output=most)


def test_ends_where_no_score_is_high_enough() -> None:
    check(*crowd(30), score_threshold=2.0)
    check(torch.empty(0, 4), torch.empty(0))


FAULTS = [
    Fault("a box is selected twice", "soft_nms.cu", "score >= least && i != chosen",
          "score >= least", gaussian),
    Fault("ties go to the higher index", "soft_nms.cu", "other_index < index",
          "other_index > index", ties),
    Fault("warps read before others have written", "soft_nms.cu",
          "    __syncthreads();\n    best = lane", "    best = lane", linear),
    Fault("the bests of two steps share memory", "soft_nms.cu",
          "of_warps[number & 1];", "of_warps[1];", linear),
    Fault("the overlap is not squared", "soft_nms.cu", "-(overlap * overlap)", "-overlap",
          gaussian),
]  # fmt: skip
