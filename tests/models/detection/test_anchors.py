"""Anchors are torchvision's, box for box."""

import pytest
import torch
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList

from cvperf.errors import ArgumentError
from cvperf.models.detection.anchors import AnchorGenerator

MAPS = [torch.zeros(1, 1, 40, 56), torch.zeros(1, 1, 20, 28), torch.zeros(1, 1, 3, 4)]
SIZES = ((32, 45), (64, 90), (128, 181))
RATIOS = ((0.5, 1.0, 2.0),) * 3


def test_anchors_of_a_pyramid_are_torchvisions():
    images = ImageList(torch.zeros(1, 3, 160, 224), [(160, 224)])
    wanted = anchor_utils.AnchorGenerator(SIZES, RATIOS)(images, MAPS)[0]
    found = AnchorGenerator(SIZES, RATIOS)((160, 224), MAPS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_one_list_of_ratios_serves_all_levels():
    one, each = AnchorGenerator(SIZES, (0.5, 1.0, 2.0)), AnchorGenerator(SIZES, RATIOS)
    assert one.counts() == each.counts() == [6, 6, 6]
    assert torch.equal(one((160, 224), MAPS), each((160, 224), MAPS))


def test_another_size_of_image_gets_anchors_of_its_own():
    generator = AnchorGenerator(((32,),))
    first = generator((64, 64), [torch.zeros(1, 1, 8, 8)])
    second = generator((64, 128), [torch.zeros(1, 1, 8, 16)])
    assert len(first) == 3 * 8 * 8
    assert len(second) == 3 * 8 * 16


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="one entry a level"):
        AnchorGenerator(SIZES, RATIOS[:2])
    with pytest.raises(ArgumentError, match=r"3 feature maps.*got 1"):
        AnchorGenerator(SIZES)((160, 224), MAPS[:1])
