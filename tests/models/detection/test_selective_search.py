"""Selective Search finds what stands out, always in the same order."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cvperf.errors import ArgumentError
from cvperf.models.detection.selective_search import (
    Grouping,
    _histograms,
    _Regions,
    selective_search,
)
from tests.models.detection.scenes import scene


def test_things_that_stand_out_get_a_box():
    image, target = scene()
    boxes = selective_search(image)
    assert boxes.dtype == torch.float32
    assert (box_iou(target["boxes"], boxes).amax(1) > 0.9).all()


def test_boxes_lie_in_the_image_and_come_once():
    image = torch.rand(3, 60, 90)
    boxes = selective_search(image, 50, least_side=10)
    assert 0 < len(boxes) <= 50
    assert len(boxes.unique(dim=0)) == len(boxes)
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([90.0, 60.0, 90.0, 60.0])).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 10).all()


def test_the_same_seed_gives_the_same_boxes_in_the_same_order():
    image = scene()[0]
    assert torch.equal(selective_search(image), selective_search(image))
    assert not torch.equal(selective_search(image), selective_search(image, seed=1))


def test_an_image_of_one_colour_is_one_box():
    assert selective_search(torch.full((3, 40, 50), 0.5)).tolist() == [[0, 0, 50, 40]]


def test_the_most_alike_of_touching_regions_join_first():
    labels = np.repeat([[0, 1, 2, 3]], 4, axis=0).repeat(4, axis=1)  # four upright stripes
    likeness = np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)
    boxes = _Regions(labels, likeness).join()
    assert len(boxes) == 7
    assert boxes[4].tolist() == [4, 0, 12, 4]  # 1 and 2; 0 and 3 are as alike, but do not touch
    assert boxes[-1].tolist() == [0, 0, 16, 4]


def test_histograms_count_each_region_by_itself():
    labels = np.array([[0, 0, 1]])
    bins = np.array([[[0], [2], [1]]])
    assert _histograms(labels, bins, 3).tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]


def test_what_is_no_image_and_no_colour_space_is_refused():
    with pytest.raises(ArgumentError, match=r"image\[3, H, W\].*float32\[1, 8, 8\]"):
        selective_search(torch.rand(1, 8, 8))
    with pytest.raises(ArgumentError, match="space must be one of rgb, hsv, lab; got 'cmyk'"):
        selective_search(torch.rand(3, 8, 8), groupings=[Grouping("cmyk")])
