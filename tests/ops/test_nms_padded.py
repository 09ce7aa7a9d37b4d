"""nms_padded: each image's answer is the start of its nms, in a tensor of static shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference


def boxes_and_scores(
    images: int, count: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    corners = torch.rand(images, count, 2) * 3 * count**0.5
    boxes = torch.cat([corners, corners + 1 + torch.rand(images, count, 2) * 30], 2)
    return boxes.to(dtype), torch.rand(images, count).to(dtype)


def assert_starts_of_nms(
    answer: tuple[Tensor, Tensor], boxes: Tensor, scores: Tensor, threshold: float, most: int
) -> None:
    indices, counts = answer
    assert indices.shape == (len(boxes), most)
    assert counts.shape == (len(boxes),)
    assert indices.dtype == counts.dtype == torch.int64
    for row, count, image, its_scores in zip(indices, counts, boxes, scores, strict=True):
        kept = ops.nms(image, its_scores, threshold)[:most]
        assert int(count) == len(kept)
        assert row.tolist() == kept.tolist() + [-1] * (most - len(kept))


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(
    ("images", "count", "most"),
    [(1, 1, 1), (2, 1, 5), (3, 40, 7), (3, 40, 0), (2, 300, 300), (5, 300, 1000), (1, 3000, 900)],
)
def test_each_image_is_the_start_of_its_nms(
    isa: str, images: int, count: int, most: int, threshold: float
) -> None:
    boxes, scores = boxes_and_scores(images, count)
    answer = ops.nms_padded(boxes, scores, threshold, most)
    assert_starts_of_nms(answer, boxes, scores, threshold, most)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_the_reference_in_every_dtype(isa: str, dtype: torch.dtype) -> None:
    boxes, scores = boxes_and_scores(3, 200, dtype)
    found = ops.nms_padded(boxes, scores, 0.4, 90)
    wanted = reference.nms_padded(boxes, scores, 0.4, 90)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_ends_where_the_wanted_number_is_in_the_middle_of_many_kept(isa: str) -> None:
    # Past the number of kept boxes where the grid takes over, and far below the number of boxes.
    boxes, scores = boxes_and_scores(2, 6000)
    for most in (2500, 2501, 5999):
        answer = ops.nms_padded(boxes, scores, 0.5, most)
        assert_starts_of_nms(answer, boxes, scores, 0.5, most)


@pytest.mark.parametrize(("images", "count", "most"), [(0, 5, 3), (3, 0, 4), (0, 0, 0), (2, 4, 0)])
def test_empty_input_gives_an_empty_answer(isa: str, images: int, count: int, most: int) -> None:
    boxes, scores = boxes_and_scores(images, count)
    answer = ops.nms_padded(boxes, scores, 0.5, most)
    assert_starts_of_nms(answer, boxes, scores, 0.5, most)


def test_the_answer_does_not_depend_on_the_number_of_threads(isa: str) -> None:
    boxes, scores = boxes_and_scores(7, 900)
    threads = torch.get_num_threads()
    answers = []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            answers.append(ops.nms_padded(boxes, scores, 0.5, 700))
    finally:
        torch.set_num_threads(threads)
    for answer in answers[1:]:
        assert torch.equal(answer[0], answers[0][0])
        assert torch.equal(answer[1], answers[0][1])


def test_layouts_are_served_not_refused() -> None:
    boxes, scores = boxes_and_scores(4, 50)
    strided = boxes.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    answer = ops.nms_padded(strided, scores.t().contiguous().t(), 0.5, 30)
    assert_starts_of_nms(answer, boxes, scores, 0.5, 30)


GOOD = torch.rand(2, 5, 4), torch.rand(2, 5)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((torch.rand(5, 4), GOOD[1], 0.5, 3), ValueError, r"boxes\[B, N, 4\], got float32\[5, 4\]"),
        ((torch.rand(2, 5, 5), GOOD[1], 0.5, 3), ValueError, r"x1, y1, x2, y2.*\[2, 5, 5\]"),
        ((GOOD[0], torch.rand(5), 0.5, 3), ValueError, r"scores must be scores\[B, N\]"),
        ((GOOD[0], torch.rand(2, 4), 0.5, 3), ValueError, r"one entry a box.*float32\[2, 4\]"),
        ((GOOD[0], torch.rand(3, 5), 0.5, 3), ValueError, r"one entry a box.*float32\[3, 5\]"),
        ((GOOD[0].int(), GOOD[1], 0.5, 3), ValueError, "float16, bfloat16.*int32"),
        ((GOOD[0], GOOD[1].double(), 0.5, 3), ValueError, "same dtype.*float64"),
        ((*GOOD, float("nan"), 3), ValueError, "iou_threshold is NaN"),
        ((*GOOD, 0.5, -1), ValueError, "max_output must be 0 or more, got -1"),
        ((*GOOD, 0.5, 3.0), TypeError, "max_output must be an integer"),
        ((*GOOD, 0.5, True), TypeError, "max_output must be an integer"),
    ],
)
def test_bad_input_is_named(args: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        ops.nms_padded(*args)
    if error is ValueError:
        assert isinstance(raised.value, cvperf.ArgumentError)


def test_opcheck() -> None:
    boxes, scores = boxes_and_scores(3, 20)
    torch.library.opcheck(torch.ops.cvperf.nms_padded.default, (boxes, scores, 0.5, 12))


class Detector(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        indices, counts = ops.nms_padded(boxes * 2, scores, 0.5, 12)
        chosen = boxes.gather(1, indices.clamp(min=0)[..., None].expand(-1, -1, 4))
        return chosen, counts


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic: bool) -> None:
    boxes, scores = boxes_and_scores(3, 60)
    compiled = torch.compile(Detector(), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for got, wanted in zip(compiled(boxes, scores), Detector()(boxes, scores), strict=True):
        assert torch.equal(got, wanted)


def test_exports_with_static_shapes() -> None:
    boxes, scores = boxes_and_scores(3, 60)
    program = torch.export.export(Detector(), (boxes, scores))
    (node,) = [node for node in program.graph.nodes if "nms_padded" in str(node.target)]
    sizes = [tuple(tensor.shape) for tensor in node.meta["val"]]
    assert sizes == [(3, 12), (3,)]
    assert all(type(size) is int for shape in sizes for size in shape), "no symbolic sizes"
    more = boxes_and_scores(3, 60)
    for got, wanted in zip(program.module()(*more), Detector()(*more), strict=True):
        assert torch.equal(got, wanted)
