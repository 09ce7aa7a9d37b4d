"""NanoDet-g, rebuilt from the weights of a TensorFlow.js graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.transforms.functional import pil_to_tensor

from cvperf.data.photos import photo
from cvperf.models.detection.nanodet import PACKAGE, NanoDet, coco_ids, nanodet
from cvperf.models.detection.transform import Resize
from tests.npm import needs

NAMES = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""


@pytest.fixture(scope="module")
def detector() -> NanoDet:
    return nanodet()


def pixels(name: str) -> Tensor:
    return pil_to_tensor(photo(name)).float() / 255


# By eye, in pixels of the photo: what is in it, and where.
SEEN = {
    "motorcycle": ("motorcycle", [110, 75, 690, 455]),
    "cat": ("cat", [0, 0, 451, 300]),
    "astronaut": ("person", [0, 10, 370, 512]),
    "camera": ("person", [5, 65, 320, 512]),
}


@needs(PACKAGE)
@pytest.mark.parametrize("name", SEEN)
def test_it_finds_what_a_photo_shows(detector: NanoDet, name: str) -> None:
    label, (left, top, right, bottom) = SEEN[name]
    (found,) = detector([pixels(name)])
    best = found["boxes"][0]
    assert NAMES[found["labels"][0]] == label
    assert found["scores"][0] > 0.5
    assert (best - best.new_tensor([left, top, right, bottom])).abs().max() < 30


@needs(PACKAGE)
def test_the_graphs_own_answer_comes_out(detector: NanoDet) -> None:
    # Of the package's graph, run by TensorFlow.js 4.22 (CPU backend) on the same numbers: the
    # motorcycle stretched to 416 x 416. Its box is decoded with NumPy from the graph's logits. All
    # 3,549 x 80 chances were equal to ours within 6.6e-7.
    batch, _, _ = Resize(fixed_size=(416, 416))([pixels("motorcycle")])
    with torch.inference_mode():
        (boxes,), (scores,) = detector.answers(batch.flip(1))
    best, places = scores[:, 3].topk(3)  # the class "motorcycle"
    assert scores.shape == (3549, 80)
    assert places.tolist() == [3478, 3477, 3465]
    torch.testing.assert_close(
        best, torch.tensor([0.7937628, 0.7768750, 0.7691675]), rtol=0, atol=1e-5
    )
    expected = torch.tensor([59.4008, 62.1046, 386.0168, 377.5876])
    torch.testing.assert_close(boxes[3478], expected, rtol=0, atol=1e-2)


@needs(PACKAGE)
def test_boxes_move_with_the_object(detector: NanoDet) -> None:
    image = pixels("camera")
    (before,) = detector([image])
    wider = torch.nn.functional.pad(image, (160, 0, 0, 0), value=0.6)
    (after,) = detector([wider])
    shift = (after["boxes"][0] - before["boxes"][0])[[0, 2]]
    assert (shift - 160).abs().max() < 25


def test_a_distribution_over_strides_is_a_distance() -> None:
    from cvperf.models.detection.nanodet import _boxes

    sides = torch.full((1, 2, 3, 44), -50.0)
    for side, bin in enumerate((1, 2, 3, 10)):
        sides[..., 11 * side + bin] = 50
    boxes = _boxes(sides, 8)
    assert boxes.shape == (1, 2, 3, 4)
    # The place in row 1 and column 2 has its centre at (20, 12).
    assert boxes[0, 1, 2].tolist() == [20 - 8, 12 - 16, 20 + 24, 12 + 80]
    sides[..., :11] = 0  # all bins alike: their mean, 5 strides
    assert _boxes(sides, 8)[0, 1, 2, 0].item() == pytest.approx(20 - 40)


def test_labels_are_cocos_ids() -> None:
    ids = coco_ids()
    assert len(ids) == 80
    assert (ids[0], ids[-1]) == (1, 90)
    assert NAMES[ids[79]] == "toothbrush"


def test_every_stride_has_its_places_and_none_is_left_out() -> None:
    model = NanoDet().eval()  # random weights
    boxes, scores = model.answers(torch.zeros(2, 3, 64, 96))
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert boxes.shape == (2, places, 4)
    assert scores.shape == (2, places, 80)
