"""Weighted boxes fusion: the paper's formulas by hand, classes, weights, order, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ArgumentError
from cvperf.models.detection.fusion import fuse_boxes

pytestmark = pytest.mark.usefixtures("one_thread")


def answer(*rows: tuple[list[float], int, float]) -> dict[str, Tensor]:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ([], [], [])
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores).float(),
    }


def test_boxes_that_overlap_are_averaged_by_their_scores() -> None:
    left, right = [0.0, 0, 10, 10], [1.0, 0, 11, 10]  # IoU 9 / 11
    fused = fuse_boxes([answer((left, 1, 0.9)), answer((right, 1, 0.3))])
    assert fused["labels"].tolist() == [1]
    torch.testing.assert_close(fused["boxes"], torch.tensor([[0.25, 0, 10.25, 10]]))
    torch.testing.assert_close(fused["scores"], torch.tensor([0.6]))


def test_what_one_detector_of_three_sees_counts_a_third() -> None:
    box = [0.0, 0, 10, 10]
    fused = fuse_boxes([answer((box, 2, 0.9)), answer(), answer()])
    torch.testing.assert_close(fused["scores"], torch.tensor([0.3]))
    assert fused["boxes"].tolist() == [box]


def test_a_crowd_of_one_detectors_boxes_counts_as_all_detectors_at_most() -> None:
    crowd = answer(*(([0.0, 0, 10, 10], 1, 0.8) for _ in range(5)))
    fused = fuse_boxes([crowd, answer()])
    torch.testing.assert_close(fused["scores"], torch.tensor([0.8]))


def test_classes_and_distant_boxes_stay_apart_by_falling_score() -> None:
    box, far = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    fused = fuse_boxes([answer((box, 1, 0.4), (box, 2, 0.9), (far, 1, 0.6))])
    assert fused["labels"].tolist() == [2, 1, 1]
    torch.testing.assert_close(fused["scores"], torch.tensor([0.9, 0.6, 0.4]))
    assert fused["boxes"].tolist() == [box, far, box]


def test_a_box_joins_the_fused_box_not_the_first_one() -> None:
    # Each meets the mean of those before it by more than 0.55, the last not the first by as much.
    rows = [([shift, 0.0, shift + 10, 10.0], 1, 0.5) for shift in (0.0, 2.5, 4.0)]
    fused = fuse_boxes([answer(row) for row in rows])
    assert len(fused["scores"]) == 1
    torch.testing.assert_close(fused["boxes"][0, 0], torch.tensor(6.5 / 3))


def test_weights_say_how_much_a_detector_counts() -> None:
    left, right = [0.0, 0, 10, 10], [1.0, 0, 11, 10]
    fused = fuse_boxes([answer((left, 1, 0.5)), answer((right, 1, 0.5))], weights=[3, 1])
    torch.testing.assert_close(fused["boxes"][0], torch.tensor([0.25, 0, 10.25, 10]))
    torch.testing.assert_close(fused["scores"], torch.tensor([0.5]))  # (3 + 1) / 2 * .5 * 2 / 4


def test_fusing_a_detector_with_itself_changes_nothing() -> None:
    corners = torch.arange(0, 200, 20).float()[:, None].repeat(1, 2)
    one = {
        "boxes": torch.cat([corners, corners + 15], 1),
        "labels": torch.arange(10) % 3,
        "scores": torch.rand(10).sort(descending=True).values,
    }
    fused = fuse_boxes([one, one, one])
    for name, values in one.items():
        torch.testing.assert_close(fused[name], values)


def test_noise_of_several_detectors_averages_out() -> None:
    corners = torch.arange(0, 1000, 50).float()[:, None].repeat(1, 2)
    truth = torch.cat([corners, corners + 40], 1)
    noisy = [
        {
            "boxes": truth + 2 * torch.randn(20, 4),
            "labels": torch.ones(20, dtype=torch.int64),
            "scores": 0.5 + 0.1 * torch.rand(20),
        }
        for _ in range(8)
    ]
    fused = fuse_boxes(noisy)
    order = fused["boxes"][:, 0].argsort()
    error = (fused["boxes"][order] - truth).abs().mean()
    alone = torch.stack([(each["boxes"] - truth).abs().mean() for each in noisy]).mean()
    assert error < alone / 2


def test_low_scores_and_empty_answers_are_left_out() -> None:
    assert fuse_boxes([answer(), answer()])["boxes"].shape == (0, 4)
    fused = fuse_boxes([answer(([0.0, 0, 1, 1], 1, 0.1))], score_threshold=0.1)
    assert [len(each) for each in fused.values()] == [0, 0, 0]


GOOD = answer(([0.0, 0, 1, 1], 1, 0.5))


@pytest.mark.parametrize(
    ("answers", "changes", "message"),
    [
        ([], {}, "answers is empty"),
        ([GOOD, {"boxes": GOOD["boxes"]}], {}, r"answers\[1\] has no labels and no scores"),
        ([{**GOOD, "boxes": torch.rand(1, 5)}], {}, r"answers\[0\].*float32\[1, 5\]"),
        ([GOOD], {"weights": [1, 2]}, r"weights must be 1 numbers above 0.*\[1, 2\]"),
        ([GOOD], {"weights": [0]}, "weights must be"),
        ([GOOD], {"score_threshold": -1.0}, "score_threshold must be 0 or more"),
        ([GOOD], {"iou_threshold": float("nan")}, "iou_threshold is NaN"),
    ],
)
def test_bad_input_is_named(answers: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fuse_boxes(answers, **changes)
