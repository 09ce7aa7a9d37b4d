"""NMS as a torch op: bad input, layouts, precision, compile, export. See also test_nms_exact.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.backends import reference


def boxes_and_scores(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    corners = torch.rand(count, 2) * 50
    boxes = torch.cat([corners, corners + 1 + torch.rand(count, 2) * 30], 1)
    return boxes.to(dtype), torch.rand(count).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equals_the_reference_in_every_dtype(isa: str, dtype: torch.dtype) -> None:
    boxes, scores = boxes_and_scores(400, dtype)
    labels = torch.randint(3, (400,))
    assert torch.equal(ops.nms(boxes, scores, 0.4), reference.nms(boxes, scores, 0.4))
    found = ops.batched_nms(boxes, scores, labels, 0.4)
    assert torch.equal(found, reference.batched_nms(boxes, scores, labels, 0.4))


def test_empty_input_gives_an_empty_answer(isa: str) -> None:
    empty = ops.nms(torch.empty(0, 4), torch.empty(0), 0.5)
    assert empty.shape == (0,)
    assert empty.dtype == torch.int64
    labels = torch.empty(0, dtype=torch.int64)
    assert ops.batched_nms(torch.empty(0, 4), torch.empty(0), labels, 0.5).shape == (0,)


def test_layouts_are_served_not_refused(isa: str) -> None:
    boxes, scores = boxes_and_scores(100)
    expected = ops.nms(boxes, scores, 0.5)
    spread = torch.zeros(100, 9)
    spread[:, ::2][:, :4] = boxes
    assert torch.equal(ops.nms(spread[:, ::2][:, :4], scores, 0.5), expected)
    assert torch.equal(ops.nms(boxes.t().contiguous().t(), scores, 0.5), expected)


def test_classes_stay_apart_at_coordinates_where_an_offset_loses_precision() -> None:
    # Two boxes of one class that overlap by 1/3, far from the origin: adding an offset of label *
    # (max + 1) to float32 coordinates near 2**24 would round one pixel away.
    far = 2.0**23
    boxes = torch.tensor([[far, 0, far + 2, 2], [far + 1, 0, far + 3, 2], [far, 0, far + 2, 2]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    labels = torch.tensor([7, 7, 3])
    assert ops.batched_nms(boxes, scores, labels, 0.3).tolist() == [0, 2]
    assert ops.batched_nms(boxes, scores, labels, 0.34).tolist() == [0, 1, 2]


@pytest.mark.parametrize("label", [-(2**62), -1, 2**62])
def test_any_class_number_is_a_class(label: int) -> None:
    boxes, scores = boxes_and_scores(50)
    labels = torch.full((50,), label)
    assert torch.equal(ops.batched_nms(boxes, scores, labels, 0.5), ops.nms(boxes, scores, 0.5))


def test_the_answer_does_not_depend_on_the_number_of_threads() -> None:
    boxes, scores = boxes_and_scores(3000)
    labels = torch.randint(9, (3000,))
    answers = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        answers.append((ops.nms(boxes, scores, 0.5), ops.batched_nms(boxes, scores, labels, 0.5)))
    torch.set_num_threads(2)
    for single, batched in answers[1:]:
        assert torch.equal(single, answers[0][0])
        assert torch.equal(batched, answers[0][1])


GOOD = torch.rand(5, 4), torch.rand(5)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (([[0, 0, 1, 1]], torch.rand(1), 0.5), TypeError, "boxes must be a torch.Tensor"),
        (
            (torch.rand(4), torch.rand(1), 0.5),
            ValueError,
            r"boxes\[N, 4\], got float32\[4\] on cpu",
        ),
        ((torch.rand(5, 3), torch.rand(5), 0.5), ValueError, r"x1, y1, x2, y2.*float32\[5, 3\]"),
        ((torch.ones(5, 4).int(), torch.rand(5), 0.5), ValueError, "float16, bfloat16.*int32"),
        ((GOOD[0], torch.rand(4), 0.5), ValueError, r"one entry a box: scores is float32\[4\]"),
        ((GOOD[0], torch.rand(5, 1), 0.5), ValueError, r"scores must be scores\[N\]"),
        ((GOOD[0], GOOD[1].double(), 0.5), ValueError, "same dtype.*float64"),
        ((GOOD[0], GOOD[1].to("meta"), 0.5), ValueError, "same device.*meta"),
        ((*GOOD, float("nan")), ValueError, "iou_threshold is NaN"),
        ((*GOOD, "0.5"), TypeError, "iou_threshold must be a number"),
    ],
)
def test_bad_input_is_named(args: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        ops.nms(*args)  # type: ignore[arg-type]
    if error is ValueError:
        assert isinstance(raised.value, RuntimeError)
        assert isinstance(raised.value, cvperf.ArgumentError)


def test_class_labels_must_be_integers_one_a_box() -> None:
    with pytest.raises(cvperf.ArgumentError, match="idxs must be integers"):
        ops.batched_nms(*GOOD, torch.rand(5), 0.5)
    with pytest.raises(cvperf.ArgumentError, match="one entry a box"):
        ops.batched_nms(*GOOD, torch.zeros(4).long(), 0.5)


def test_opcheck() -> None:
    boxes, scores = boxes_and_scores(20)
    torch.library.opcheck(torch.ops.cvperf.nms.default, (boxes, scores, 0.5))
    labels = torch.randint(3, (20,))
    torch.library.opcheck(torch.ops.cvperf.batched_nms.default, (boxes, scores, labels, 0.5))


class Detector(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        keep = ops.nms(boxes * 2, scores, 0.5)
        return boxes[keep] + 1


def test_compiles_without_a_graph_break() -> None:
    boxes, scores = boxes_and_scores(60)
    compiled = torch.compile(Detector(), fullgraph=True, backend="aot_eager", dynamic=True)
    assert torch.equal(compiled(boxes, scores), Detector()(boxes, scores))


def test_exports_with_a_dynamic_number_of_boxes() -> None:
    boxes, scores = boxes_and_scores(60)
    count = torch.export.Dim("count")
    dynamic = ({0: count}, {0: count})
    program = torch.export.export(Detector(), (boxes, scores), dynamic_shapes=dynamic)
    more = boxes_and_scores(33)
    assert torch.equal(program.module()(*more), Detector()(*more))
