"""Losses of the one-stage detectors, by hand; and which places of YOLO an object is learnt at."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cvperf.models.detection.assign import TaskAlignment
from cvperf.models.detection.losses import (
    cropped_mask_loss,
    distribution_focal_loss,
    hard_negative_loss,
    inside,
)
from cvperf.models.detection.matching import Matcher
from cvperf.models.detection.ssd import match_every_object
from cvperf.models.detection.yolact import enlarge, shrink

pytestmark = pytest.mark.usefixtures("one_thread")


def test_of_the_background_only_the_hardest_counts() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 20, 4)
    classes = torch.zeros(2, 20, dtype=torch.int64)
    classes[0, 3], classes[0, 7], classes[1, 5] = 1, 3, 2
    each = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view(2, 20)
    wanted = each[classes > 0].sum()
    wanted += each[0][classes[0] == 0].topk(6).values.sum()
    wanted += each[1][classes[1] == 0].topk(3).values.sum()
    torch.testing.assert_close(hard_negative_loss(logits, classes), wanted)


def test_an_image_of_objects_only_counts_each_once() -> None:
    logits, classes = torch.randn(1, 3, 2), torch.ones(1, 3, dtype=torch.int64)
    wanted = F.cross_entropy(logits[0], classes[0], reduction="sum")
    torch.testing.assert_close(hard_negative_loss(logits, classes), wanted)


def test_what_is_neither_object_nor_background_is_left_out() -> None:
    logits = torch.zeros(1, 3, 2)
    classes = torch.tensor([[1, -1, -1]])
    torch.testing.assert_close(hard_negative_loss(logits, classes), torch.tensor(math.log(2)))


def test_a_distance_is_shared_by_the_two_whole_ones_beside_it() -> None:
    logits = torch.randn(3, 8)
    found = distribution_focal_loss(logits, torch.tensor([2.25, 5.0, 99.0]))
    log = logits.log_softmax(1)
    wanted = [-(0.75 * log[0, 2] + 0.25 * log[0, 3]), -log[1, 5]]
    torch.testing.assert_close(found[:2], torch.stack(wanted))
    torch.testing.assert_close(found[2], -(0.01 * log[2, 6] + 0.99 * log[2, 7]))


def test_a_mask_is_learnt_within_its_box_only() -> None:
    logits = torch.zeros(1, 8, 8)
    logits[0, :, 4:] = 50  # wrong, but outside the box
    masks = torch.zeros(1, 8, 8)
    found = cropped_mask_loss(logits, masks, torch.tensor([[0.0, 0, 4, 8]]))
    torch.testing.assert_close(found, torch.tensor([math.log(2)]))


def test_inside_is_every_pixel_that_a_box_touches() -> None:
    found = inside(torch.tensor([[1.5, 0.0, 3.0, 1.0]]), (2, 5))
    assert found.int().tolist() == [[[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]]


def test_masks_shrink_to_shares_and_grow_back_in_the_pixels_of_the_image() -> None:
    masks = torch.zeros(1, 10, 14)
    masks[0, :8, :6] = 1
    small = shrink(masks, (4, 4), 4)
    assert small.tolist() == [[[1, 0.5, 0, 0], [1, 0.5, 0, 0], [0] * 4, [0] * 4]]
    grown = enlarge(small, 4, (10, 14), (20, 28))
    assert grown.shape == (1, 20, 28)
    assert grown[0, 2, 2] == 1
    assert grown[0, 2, 26] == 0
    assert enlarge(small[:0], 4, (10, 14), (20, 28)).shape == (0, 20, 28)


def test_every_object_has_its_best_anchor_and_of_two_the_later() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    boxes = torch.tensor([[0.0, 0, 3, 3], [0, 0, 4, 4], [99, 99, 111, 111]])
    assert match_every_object(Matcher(0.5, 0.5), boxes, anchors).tolist() == [1, 2]
    assert match_every_object(Matcher(0.5, 0.5), boxes[:0], anchors).tolist() == [-1, -1]


GRID = torch.stack(torch.meshgrid(torch.arange(4.0, 64, 8), torch.arange(4.0, 64, 8),
                                  indexing="xy"), -1).reshape(-1, 2)  # fmt: skip


def test_an_object_is_learnt_where_class_and_box_fit_best() -> None:
    objects, classes = torch.tensor([[0.0, 0, 32, 32]]), torch.tensor([1])
    boxes = torch.cat([GRID - 40, GRID - 30], 1)  # all far away ...
    scores = torch.full((64, 3), 0.5)
    boxes[[0, 1, 9, 63]] = objects  # ... but for four
    scores[1, 1] = 0.9
    found = TaskAlignment(places=3)(scores, boxes, GRID, objects, classes)
    assert found.places.tolist() == [0, 1, 9]  # 63 is not within the object
    assert found.objects.tolist() == [0, 0, 0]
    share = math.sqrt(0.5 / 0.9)
    torch.testing.assert_close(found.aims, torch.tensor([share, 1, share]))


def test_a_place_within_two_objects_learns_the_one_that_it_answers() -> None:
    objects = torch.tensor([[0.0, 0, 64, 64], [0, 0, 30, 30]])
    boxes = objects[:1].repeat(64, 1)
    boxes[0] = objects[1]
    scores = torch.full((64, 2), 0.5)
    found = TaskAlignment(places=64)(scores, boxes, GRID, objects, torch.tensor([0, 1]))
    owner = dict(zip(found.places.tolist(), found.objects.tolist(), strict=True))
    assert owner[0] == 1
    assert owner[1] == owner[63] == 0


def test_an_object_between_the_places_is_learnt_at_the_nearest() -> None:
    objects = torch.tensor([[9.0, 9, 11, 11]])  # between 4 and 12
    scores, boxes = torch.full((64, 1), 0.01), torch.cat([GRID - 4, GRID + 4], 1)
    found = TaskAlignment()(scores, boxes, GRID, objects, torch.tensor([0]))
    assert GRID[found.places].tolist() == [[12, 12]]


def test_no_object_is_learnt_nowhere() -> None:
    scores, boxes = torch.rand(64, 1), torch.cat([GRID - 4, GRID + 4], 1)
    none = torch.empty(0, dtype=torch.int64)
    found = TaskAlignment()(scores, boxes, GRID, torch.empty(0, 4), none)
    assert [len(each) for each in found] == [0, 0, 0]
