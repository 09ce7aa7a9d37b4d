"""multiclass_nms_padded: the best of each class's NMS, in a tensor of static shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops


def boxes_and_scores(
    images: int, count: int, classes: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    corners = torch.rand(images, count, 2) * 3 * count**0.5
    boxes = torch.cat([corners, corners + 1 + torch.rand(images, count, 2) * 30], 2)
    return boxes.to(dtype), torch.rand(images, count, classes).to(dtype)


def class_by_class(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float
) -> list[tuple[int, int]]:
    """Box and class of all that plain NMS of each class keeps, by falling score."""
    found = []
    for label in range(scores.shape[1]):
        for index in ops.nms(boxes, scores[:, label], iou_threshold).tolist():
            if scores[index, label] > score_threshold:
                found.append((-float(scores[index, label]), label, index))
    return [(index, label) for _, label, index in sorted(found, key=lambda each: each[:2])]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("score_threshold", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(
    ("images", "count", "classes", "most"),
    [(1, 1, 1, 1), (2, 1, 3, 9), (3, 40, 5, 7), (2, 60, 4, 1000), (2, 300, 2, 90), (2, 9, 3, 0)],
)
def test_equals_nms_of_each_class(
    images: int, count: int, classes: int, most: int, score_threshold: float, dtype: torch.dtype
) -> None:
    boxes, scores = boxes_and_scores(images, count, classes, dtype)
    indices, labels, counts = ops.multiclass_nms_padded(boxes, scores, 0.4, most, score_threshold)
    assert indices.shape == labels.shape == (images, most)
    for row, of_row, length, image, its in zip(
        indices, labels, counts.tolist(), boxes, scores, strict=True
    ):
        wanted = class_by_class(image, its, 0.4, score_threshold)[:most]
        assert length == len(wanted)
        padding = [(-1, -1)] * (most - length)
        assert list(zip(row.tolist(), of_row.tolist(), strict=True)) == wanted + padding


def test_large_coordinates_keep_classes_apart_and_lose_nothing() -> None:
    boxes = torch.tensor([[[1e7, 1e7, 1e7 + 4, 1e7 + 4]] * 2])
    scores = torch.tensor([[[0.9, 0.0], [0.0, 0.8]]])
    indices, labels, counts = ops.multiclass_nms_padded(boxes, scores, 0.5, 3)
    assert indices.tolist() == [[0, 1, -1]]
    assert labels.tolist() == [[0, 1, -1]]
    assert counts.tolist() == [2]


def test_nan_scores_do_not_count() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 4]]])
    scores = torch.tensor([[[torch.nan], [0.5]]])
    indices, _, counts = ops.multiclass_nms_padded(boxes, scores, 0.5, 2)
    assert (indices.tolist(), counts.tolist()) == ([[1, -1]], [1])


@pytest.mark.parametrize(
    ("images", "count", "classes"), [(0, 5, 3), (3, 0, 4), (2, 4, 0), (0, 0, 0)]
)
def test_empty_input_gives_an_empty_answer(images: int, count: int, classes: int) -> None:
    answer = ops.multiclass_nms_padded(*boxes_and_scores(images, count, classes), 0.5, 3)
    assert answer[0].tolist() == answer[1].tolist() == [[-1] * 3] * images
    assert answer[2].tolist() == [0] * images


GOOD = torch.rand(2, 5, 4), torch.rand(2, 5, 3)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((torch.rand(5, 4), GOOD[1], 0.5, 3), ValueError, r"boxes\[B, N, 4\], got float32\[5, 4\]"),
        ((GOOD[0], torch.rand(2, 5), 0.5, 3), ValueError, r"scores must be scores\[B, N, C\]"),
        ((GOOD[0], torch.rand(2, 4, 3), 0.5, 3), ValueError, r"one entry a box.*\[2, 4, 3\]"),
        ((GOOD[0], GOOD[1].double(), 0.5, 3), ValueError, "same dtype.*float64"),
        ((*GOOD, 0.5, -1), ValueError, "max_output must be 0 or more, got -1"),
        ((*GOOD, 0.5, 3, float("nan")), ValueError, "score_threshold is NaN"),
    ],
)
def test_bad_input_is_named(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        ops.multiclass_nms_padded(*args)
    assert isinstance(raised.value, cvperf.ArgumentError)


class Detector(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        indices, labels, counts = ops.multiclass_nms_padded(boxes * 2, scores, 0.5, 12, 0.2)
        chosen = boxes.gather(1, indices.clamp(min=0)[..., None].expand(-1, -1, 4))
        return chosen, labels, counts


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic: bool) -> None:
    inputs = boxes_and_scores(3, 60, 4)
    compiled = torch.compile(Detector(), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for got, wanted in zip(compiled(*inputs), Detector()(*inputs), strict=True):
        assert torch.equal(got, wanted)


def test_exports_with_static_shapes() -> None:
    program = torch.export.export(Detector(), boxes_and_scores(3, 60, 4))
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    sizes = [tuple(node.meta["val"].shape) for node in outputs]
    assert sizes == [(3, 12, 4), (3, 12), (3,)]
    assert all(type(size) is int for shape in sizes for size in shape), "no symbolic sizes"
    more = boxes_and_scores(3, 60, 4)
    for got, wanted in zip(program.module()(*more), Detector()(*more), strict=True):
        assert torch.equal(got, wanted)
