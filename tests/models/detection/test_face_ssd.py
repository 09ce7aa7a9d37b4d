"""The SSD that finds faces, rebuilt from face-api's weights, answers what its own code answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from cvperf.data import fetch, read_image
from cvperf.data.photos import photo
from cvperf.models.detection.face_ssd import PACKAGE, FaceSSD, face_ssd
from tests.npm import needs

pytestmark = needs(PACKAGE)

# Counted by eye in the package's six photos of people.
FACES = {1: 3, 2: 3, 3: 3, 4: 4, 5: 5, 6: 4}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""


@pytest.fixture(scope="module")
def detector() -> FaceSSD:
    return face_ssd()


def group(number: int) -> Tensor:
    return read_image(fetch(PACKAGE) / f"demo/sample{number}.jpg").float() / 255


@pytest.mark.parametrize(("number", "count"), FACES.items())
def test_each_face_of_the_group_photos_is_found_once(
    detector: FaceSSD, number: int, count: int
) -> None:
    image = group(number)
    (found,) = detector([image])
    boxes = found["boxes"]
    sides = boxes[:, 2:] - boxes[:, :2]
    assert len(boxes) == count
    assert set(found["labels"].tolist()) == {1}
    assert (sides > 0.05 * image.shape[2]).all()
    assert (sides[:, 1] > sides[:, 0]).all()  # faces are higher than wide
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= boxes.new_tensor([image.shape[2], image.shape[1]])).all()


def test_the_packages_own_answer_comes_out(detector: FaceSSD) -> None:
    # What locateFaces of face-api 1.7.15 answers, its code unchanged, on the CPU backend of the
    # TensorFlow.js 4.22 that it has inside. Before suppression, all 5,118 chances were equal to
    # ours within 2.4e-7, and all boxes within 0.0006 pixels.
    expected = torch.tensor([[181.1181, 72.8606, 264.3954, 174.5829]])
    (found,) = detector([pil_to_tensor(photo("astronaut")).float() / 255])  # 512 pixels wide
    torch.testing.assert_close(found["boxes"], expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(found["scores"], torch.tensor([0.9648423]), rtol=0, atol=1e-5)
    assert found["labels"].tolist() == [1]


def test_there_is_nobody_in_a_cup(detector: FaceSSD) -> None:
    (found,) = detector([pil_to_tensor(photo("coffee")).float() / 255])
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)


def test_what_it_finds_does_not_depend_on_its_neighbours_in_the_batch(detector: FaceSSD) -> None:
    images = [group(4)[:, ::3, ::3], group(5)[:, ::3, ::3]]
    together = detector(images)
    alone = detector(images[1:])[0]
    torch.testing.assert_close(together[1]["boxes"], alone["boxes"], rtol=0, atol=1e-2)
