"""Metrics of detection on cases that can be worked out by hand, and against torchmetrics'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from cvperf.errors import ArgumentError
from cvperf.eval import Detection, match

SIZE = 128


def masks_of(boxes: Tensor) -> Tensor:
    """uint8 [n, 128, 128]: each box filled."""
    masks = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[max(top, 0) : bottom, max(left, 0) : right] = 1
    return masks


def objects(boxes: list[list[float]], labels: list[int], scores: list[float] | None = None):
    one = {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels).long(),
    }
    return one if scores is None else {**one, "scores": torch.tensor(scores).float()}


def computed(found: list, truth: list, classes: str = "ab") -> dict[str, float]:
    metrics = Detection(classes)
    metrics.update(found, truth)
    return metrics.compute()


A, B = [0.0, 0, 20, 20], [40.0, 40, 80, 80]


def test_all_found_and_nothing_else_is_perfect() -> None:
    figures = computed([objects([A, B], [0, 1], [0.9, 0.8])], [objects([A, B], [0, 1])])
    names = (
        "ap",
        "ap50",
        "ap75",
        "ap_small",
        "ap_medium",
        "recall@1",
        "recall@100",
        "ap/a",
        "ap50/b",
    )
    assert {name: figures[name] for name in names} == dict.fromkeys(names, 1.0)
    assert "ap_large" not in figures  # there is none
    assert "mask_ap" not in figures
    assert figures["count_error"] == 0


def test_a_surer_false_answer_halves_precision() -> None:
    """Precision at the one object's recall is 1/2: a false answer comes before the right one."""
    figures = computed([objects([B, A], [0, 0], [0.9, 0.8])], [objects([A], [0])], "a")
    assert figures["ap50"] == pytest.approx(0.5)
    assert figures["recall@1"] == 0.0
    assert figures["recall@10"] == 1.0
    assert figures["count_error"] == 1.0


def test_an_overlap_counts_at_the_ious_it_reaches() -> None:
    """IoU 16/20 = 0.8: right at 0.5 to 0.8, seven of the ten."""
    figures = computed([objects([[0, 0, 20, 16]], [0], [0.9])], [objects([A], [0])], "a")
    assert figures["ap"] == pytest.approx(0.7)
    assert figures["ap75"] == 1.0
    assert figures["recall@100"] == pytest.approx(0.7)


def test_half_of_the_objects_is_half_of_the_curve() -> None:
    """Precision 1 up to recall 1/2, which 51 of the 101 points are at or below."""
    figures = computed([objects([A], [0], [0.9])], [objects([A, B], [0, 0])], "a")
    assert figures["ap50"] == pytest.approx(51 / 101)


def test_classes_do_not_mix_and_one_that_is_nowhere_is_left_out() -> None:
    found = [objects([A, B], [1, 1], [0.9, 0.8])]
    figures = computed(found, [objects([A, B], [0, 1])], "abc")
    assert figures["ap50/a"] == 0
    assert figures["ap50/b"] == pytest.approx(0.5)
    assert figures["ap50"] == pytest.approx(0.25)
    assert "ap/c" not in figures


def test_images_do_not_mix() -> None:
    """The same box in the wrong image is a false answer; one image has nothing, in either."""
    none = objects([], [])
    found = [objects([A], [0], [0.9]), objects([], [], []), objects([], [], [])]
    assert computed(found, [none, objects([A], [0]), none], "a")["ap"] == 0


def test_masks_are_judged_by_their_own_overlap() -> None:
    truth = objects([A], [0]) | {"masks": masks_of(torch.tensor([A]))}
    found = objects([A], [0], [0.9])
    half = torch.tensor([[0.0, 0, 20, 12]])
    figures = computed([found | {"masks": masks_of(half)[:, None] * 0.6}], [truth], "a")
    assert figures["ap"] == 1.0
    assert figures["mask_ap50"] == 1.0
    assert figures["mask_ap"] == pytest.approx(0.3)  # IoU 12/20: right at 0.5, 0.55 and 0.6
    assert figures["mask_ap50/a"] == 1.0


def test_probabilities_below_a_half_are_no_part_of_a_mask() -> None:
    truth = objects([A], [0]) | {"masks": masks_of(torch.tensor([A]))}
    found = objects([A], [0], [0.9]) | {"masks": masks_of(torch.tensor([A]))[:, None] * 0.4}
    assert computed([found], [truth], "a")["mask_ap50"] == 0


def test_the_area_of_an_object_is_that_of_its_mask() -> None:
    box = [[0.0, 0, 40, 40]]  # medium; its mask of 400 pixels is small
    truth = objects(box, [0]) | {"masks": masks_of(torch.tensor([A]))}
    figures = computed([objects(box, [0], [0.9])], [truth], "a")
    assert figures["ap_small"] == 1.0
    assert "ap_medium" not in figures


def test_figures_are_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)

    def boxes(count: int) -> Tensor:
        corner = torch.rand(count, 2, generator=generator) * 80
        return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 40], 1)

    found, truth = [], []
    for _ in range(12):
        there, labels = boxes(4), torch.randint(3, (4,), generator=generator)
        near = torch.cat([there + torch.randn(4, 4, generator=generator) * 2, boxes(3)]).clamp(0)
        guessed = torch.cat([labels, torch.randint(3, (3,), generator=generator)])
        scores = torch.rand(7, generator=generator)
        truth.append({"boxes": there, "labels": labels, "masks": masks_of(there)})
        masks = masks_of(near).bool()
        found.append({"boxes": near, "labels": guessed, "scores": scores, "masks": masks})
    figures = computed(found, truth, "abc")
    theirs = MeanAveragePrecision(
        iou_type=("bbox", "segm"),
        backend="faster_coco_eval",
        # Theirs are float32, of which some are above COCO's and lose the point that lies on them.
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    theirs.update(found, [{**one, "masks": one["masks"].bool()} for one in truth])
    other = {name: float(value) for name, value in theirs.compute().items() if value.dim() == 0}
    for ours, kind in (("", "bbox"), ("mask_", "segm")):
        for name in ("ap", "ap_small", "ap_medium"):
            key = f"{kind}_{name.replace('ap', 'map')}"
            assert figures[ours + name] == pytest.approx(other[key], abs=1e-6)
        assert figures[f"{ours}ap50"] == pytest.approx(other[f"{kind}_map_50"], abs=1e-6)
        assert figures[f"{ours}ap75"] == pytest.approx(other[f"{kind}_map_75"], abs=1e-6)
        for k in (1, 10, 100):
            assert figures[f"{ours}recall@{k}"] == pytest.approx(other[f"{kind}_mar_{k}"], abs=1e-6)


def test_what_was_forgotten_does_not_count() -> None:
    metrics = Detection("a")
    metrics.update([objects([B], [0], [0.9])], [objects([A], [0])])
    metrics.reset()
    metrics.update([objects([A], [0], [0.9])], [objects([A], [0])])
    assert metrics.compute()["ap"] == 1.0


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        ([objects([A], [0], [0.9])], [], "found has 1 images, truth 0"),
        ([objects([A], [0])], [objects([A], [0])], "found has no scores"),
        ([objects([A], [2], [0.9])], [objects([A], [0])], "integers from 0 to 1, got"),
        ([objects([A], [0], [0.9])], [objects([[5, 5, 5, 9]], [0])], "sanitize_boxes after it"),
        ([objects([A], [0], [float("nan")])], [objects([A], [0])], "found has NaN"),
        ([objects([A], [0, 1], [0.9])], [objects([A], [0])], r"boxes \[n, 4\] and as many"),
    ],
)
def test_what_does_not_fit_is_named(found: list, truth: list, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        computed(found, truth)


def test_images_without_any_object_have_no_figures() -> None:
    with pytest.raises(ArgumentError, match="no object in 1 images"):
        computed([objects([A], [0], [0.9])], [objects([], [])])


def test_each_object_is_taken_once_by_the_surest_answer() -> None:
    found = objects([A, [0, 0, 20, 19], B, B], [0, 0, 0, 1], [0.5, 0.9, 0.8, 0.7])
    truth = objects([B, A], [1, 0])
    assert match(found, truth).tolist() == [-1, 1, -1, 0]
    assert match(found, objects([], [])).tolist() == [-1] * 4
    assert match(objects([], [], []), truth).tolist() == []


def test_dice_is_of_the_pixels_of_sure_answers_class_by_class() -> None:
    """Class a: half of a square is found twice over; class b: all, and as much elsewhere."""
    half = [0.0, 0, 10, 20]
    truth = objects([A, B], [0, 1])
    found = objects(
        [half, half, B, [0.0, 80, 40, 120], A], [0, 0, 1, 1, 0], [0.9, 0.6, 0.9, 0.5, 0.4]
    )
    figures = computed(
        [{**found, "masks": masks_of(found["boxes"])}],
        [{**truth, "masks": masks_of(truth["boxes"])}],
    )
    a, b = 2 * 200 / (200 + 400), 2 * 1600 / (3200 + 1600)
    assert figures["mask_dice"] == pytest.approx((a + b) / 2)


def test_dice_without_an_answer_is_zero() -> None:
    truth = objects([A], [0])
    none = objects([], [], [])
    figures = computed(
        [{**none, "masks": torch.zeros(0, SIZE, SIZE)}],
        [{**truth, "masks": masks_of(truth["boxes"])}],
    )
    assert figures["mask_dice"] == 0
