"""Soft-NMS: the eager float64 reference's selections and scores, ties, NaN, bad input, torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference

METHODS = ("linear", "gaussian")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def boxes_and_scores(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    corners = torch.rand(count, 2) * 50
    boxes = torch.cat([corners, corners + 1 + torch.rand(count, 2) * 30], 1)
    return boxes.to(dtype), torch.rand(count).to(dtype)


def expected(boxes: Tensor, scores: Tensor, **changes: Any) -> tuple[Tensor, Tensor]:
    arguments = {
        **{"method": "linear", "iou_threshold": 0.3, "sigma": 0.5},
        **{"score_threshold": 0.001, "max_output": None},
        **changes,
    }
    return reference.soft_nms(boxes, scores, **arguments)


def assert_same(got: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], rtol: float) -> None:
    assert got[0].tolist() == wanted[0].tolist()
    torch.testing.assert_close(got[1], wanted[1], rtol=rtol, atol=0)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33, 400])
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_eager_reference(isa: str, method: str, count: int) -> None:
    boxes, scores = boxes_and_scores(count)
    # Linear: the same operations in the same order. Gaussian: exp rounds differently.
    rtol = 0.0 if method == "linear" else 1e-12
    assert_same(
        ops.soft_nms(boxes, scores, method=method), expected(boxes, scores, method=method), rtol
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
def test_every_dtype_scores_each_box_as_the_reference_does(
    isa: str, method: str, dtype: torch.dtype
) -> None:
    # Few overlaps, so that rounding changes no order of selection that matters.
    boxes, scores = boxes_and_scores(60, dtype)
    boxes, scores = boxes * 4, (torch.randperm(60) / 64 + 1 / 128).to(dtype)
    indices, found = ops.soft_nms(boxes, scores, method=method)
    wide = expected(boxes.double(), scores.double(), method=method)
    assert found.dtype == dtype
    assert indices.dtype == torch.int64
    rtol = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, torch.finfo(dtype).eps)
    by_box = torch.zeros(60, dtype=torch.float64).scatter(0, *wide)
    torch.testing.assert_close(found.double(), by_box[indices], rtol=rtol, atol=1e-30)
    assert sorted(indices.tolist()) == sorted(wide[0].tolist())


def test_the_paper_by_hand(isa: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 5, 10, 15], [0, 0, 10, 5], [50, 50, 60, 60]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    indices, found = ops.soft_nms(boxes, scores, iou_threshold=0.3)
    # IoU with box 0: 1/3, 1/2, 0. Boxes 1 and 2 do not meet.
    assert indices.tolist() == [0, 3, 1, 2]
    torch.testing.assert_close(found, torch.tensor([0.9, 0.6, 0.8 * 2 / 3, 0.7 / 2]))
    indices, found = ops.soft_nms(boxes, scores, iou_threshold=0.4)
    assert indices.tolist() == [0, 1, 3, 2]
    torch.testing.assert_close(found, torch.tensor([0.9, 0.8, 0.6, 0.35]))
    _, found = ops.soft_nms(boxes, scores, method="gaussian", sigma=0.5)
    decayed = [0.8 * math.exp(-2 / 9), 0.6, 0.7 * math.exp(-1 / 2)]
    torch.testing.assert_close(found, torch.tensor([0.9, *decayed]))


@pytest.mark.parametrize("method", METHODS)
def test_ties_go_to_the_lower_index(isa: str, method: str) -> None:
    boxes, _ = boxes_and_scores(90)
    boxes = boxes.round()[torch.randint(0, 30, (90,))]  # many are the same box
    scores = torch.randint(1, 4, (90,)) / 4.0
    got = ops.soft_nms(boxes, scores.double(), method=method, score_threshold=0)
    wanted = expected(boxes, scores.double(), method=method, score_threshold=0)
    assert_same(got, wanted, 0.0 if method == "linear" else 1e-12)
    same = torch.ones(40, 4) * torch.tensor([0.0, 0, 9, 9])
    apart = same + 10 * torch.arange(40.0)[:, None]
    assert ops.soft_nms(apart, torch.full((40,), 0.5))[0].tolist() == list(range(40))
    assert ops.soft_nms(same, torch.full((40,), 0.5))[0].tolist() == [0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score_threshold", [0.0, 0.05, 0.5, 2.0])
@pytest.mark.parametrize("max_output", [None, 0, 1, 20, 1000])
def test_ends_at_the_threshold_or_the_count(
    isa: str, method: str, score_threshold: float, max_output: int | None
) -> None:
    boxes, scores = boxes_and_scores(130)
    changes = {
        "method": method, "score_threshold": score_threshold, "max_output": max_output
    }  # fmt: skip
    wanted = expected(boxes, scores, **changes)
    assert_same(ops.soft_nms(boxes, scores, **changes), wanted, 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_nan_or_has_no_area(isa: str, method: str) -> None:
    wild = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e200, 1e-200])
    for seed in range(60):
        torch.manual_seed(seed)
        boxes, scores = boxes_and_scores(50)
        picks = torch.randint(0, 8, (50, 5))
        boxes = torch.where(torch.rand(50, 4) < 0.15, wild[picks[:, :4]].double(), boxes)
        scores = torch.where(torch.rand(50) < 0.2, wild[picks[:, 4]].double(), scores)
        got = ops.soft_nms(boxes, scores, method=method)
        assert_same(got, expected(boxes, scores, method=method), 1e-12)
    nothing = ops.soft_nms(torch.rand(3, 4), torch.full((3,), math.nan))
    assert nothing[0].tolist() == []


def test_an_overlap_at_the_threshold_costs_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # IoU 1/2, exactly
    scores = torch.tensor([0.9, 0.8])
    assert ops.soft_nms(boxes, scores, iou_threshold=0.5)[1].tolist() == scores.tolist()
    below = ops.soft_nms(boxes, scores, iou_threshold=0.5 - 1e-12)[1]
    torch.testing.assert_close(below, torch.tensor([0.9, 0.4]))


def test_empty_input_gives_an_empty_answer(isa: str) -> None:
    indices, scores = ops.soft_nms(torch.empty(0, 4), torch.empty(0))
    assert indices.shape == scores.shape == (0,)
    assert indices.dtype == torch.int64


def test_layouts_are_served_and_nothing_is_written_to() -> None:
    boxes, scores = boxes_and_scores(100)
    spread = torch.zeros(100, 9, dtype=torch.float64)
    spread[:, ::2][:, :4] = boxes
    twice = scores.repeat_interleave(2)
    before = scores.clone()
    got = ops.soft_nms(spread[:, ::2][:, :4], twice[::2])
    assert_same(got, ops.soft_nms(boxes, scores), 0.0)
    assert torch.equal(scores, before)


def test_no_gradient_flows() -> None:
    boxes, scores = boxes_and_scores(9)
    _, found = ops.soft_nms(boxes.requires_grad_(), scores.requires_grad_())
    assert not found.requires_grad


GOOD = torch.rand(5, 4), torch.rand(5)


@pytest.mark.parametrize(
    ("args", "changes", "error", "message"),
    [
        ((torch.rand(5, 3), GOOD[1]), {}, ValueError, r"x1, y1, x2, y2.*float32\[5, 3\]"),
        ((GOOD[0], torch.rand(4)), {}, ValueError, r"one entry a box: scores is float32\[4\]"),
        ((GOOD[0].int(), GOOD[1]), {}, ValueError, "float16, bfloat16.*int32"),
        (
            GOOD,
            {"method": "hard"},
            ValueError,
            "method must be .*linear, gaussian; got 'hard'",
        ),
        (GOOD, {"iou_threshold": math.nan}, ValueError, "iou_threshold is NaN"),
        (GOOD, {"sigma": 0.0}, ValueError, "sigma must be above 0, got 0.0"),
        (GOOD, {"sigma": "1"}, TypeError, "sigma must be a number"),
        (GOOD, {"score_threshold": -0.1}, ValueError, "score_threshold must be 0 or more"),
        (GOOD, {"score_threshold": math.nan}, ValueError, "score_threshold is NaN"),
        (GOOD, {"max_output": -1}, ValueError, "max_output must be 0 or more, got -1"),
        (GOOD, {"max_output": 2.0}, TypeError, "max_output must be an integer"),
    ],
)
def test_bad_input_is_named(
    args: tuple[Any, Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        ops.soft_nms(*args, **changes)
    if error is ValueError:
        assert isinstance(raised.value, cvperf.ArgumentError)


@pytest.mark.parametrize("method", METHODS)
def test_opcheck(method: str) -> None:
    arguments = (*boxes_and_scores(20), method, 0.3, 0.5, 0.001, 15)
    torch.library.opcheck(torch.ops.cvperf.soft_nms.default, arguments)


class Detector(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        keep, found = ops.soft_nms(boxes * 2, scores, method="gaussian")
        return boxes[keep] + 1, found


def test_compiles_without_a_graph_break_and_exports() -> None:
    inputs = boxes_and_scores(60)
    compiled = torch.compile(Detector(), fullgraph=True, backend="aot_eager", dynamic=True)
    for got, wanted in zip(compiled(*inputs), Detector()(*inputs), strict=True):
        assert torch.equal(got, wanted)
    program = torch.export.export(Detector(), inputs)
    for got, wanted in zip(program.module()(*inputs), Detector()(*inputs), strict=True):
        assert torch.equal(got, wanted)
