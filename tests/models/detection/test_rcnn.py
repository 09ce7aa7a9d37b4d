"""R-CNN's warping, Fast R-CNN's pooling, and Selective Search remembered."""

import pytest
import torch

from cvperf import ops
from cvperf.models.detection import create_detector, fast_rcnn
from cvperf.models.detection.fast_rcnn import MapPool, RememberedSearch
from cvperf.models.detection.rcnn import Warp
from tests.models.detection.scenes import PROPOSALS, scene


def test_a_warped_box_shows_the_box_and_a_little_around_it():
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, 10:20, 5:25] = 1
    (square,) = Warp(20, context=0.1)([image], [torch.tensor([[5.0, 10.0, 25.0, 20.0]])])
    assert square.shape == (3, 20, 20)
    assert (square[:, 3:17, 3:17] > 0.999).all()
    assert (square[:, :1] == 0).all()
    assert (square[:, :, :1] == 0).all()


def test_a_warped_box_is_empty_outside_the_image():
    (square,) = Warp(10, 0.0)([torch.ones(1, 3, 8, 8)], [torch.tensor([[-20.0, 0.0, 8.0, 8.0]])])
    assert (square[:, :, :6] == 0).all()
    assert (square[:, :, 9] > 0.999).all()


def test_fast_rcnn_pools_maxima_of_one_map():
    maps = [torch.rand(1, 4, 24, 24), torch.rand(1, 4, 12, 12)]
    pooled = MapPool(7, level=1, scale=1 / 8)(maps, [PROPOSALS])
    assert torch.equal(pooled, ops.roi_pool(maps[1], [PROPOSALS], 7, 1 / 8))


@pytest.mark.parametrize("name", ["rcnn", "fast-rcnn"])
def test_proposals_are_searched_for_where_none_are_given(name, monkeypatch):
    monkeypatch.setattr(fast_rcnn, "selective_search", lambda image, most: PROPOSALS[:most])
    torch.manual_seed(0)
    model = create_detector(name, 3, proposals=4).eval()
    image = scene()[0]
    with torch.no_grad():
        searched, given = model([image])[0], model([image], proposals=[PROPOSALS[:4]])[0]
    assert all(torch.equal(searched[key], given[key]) for key in given)


def test_an_image_is_searched_once(monkeypatch):
    searched = []

    def search(image, most):
        searched.append(image)
        return PROPOSALS

    monkeypatch.setattr(fast_rcnn, "selective_search", search)
    remembered = RememberedSearch(images=2)
    one, two, three = torch.rand(3, 3, 8, 8)
    for image in (one, two, one.clone(), two):
        assert remembered(image) is PROPOSALS
    assert len(searched) == 2
    remembered(three)  # the oldest, one, is forgotten
    remembered(two)
    assert len(searched) == 3
    remembered(one)
    assert len(searched) == 4
