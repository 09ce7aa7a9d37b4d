"""MTCNN finds the faces that the package whose weights it takes finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from cvperf.data import packages
from cvperf.data.photos import face_sheet, photo
from cvperf.errors import ArgumentError
from cvperf.models.detection.mtcnn import MTCNN, mtcnn

# What MTCNN(keep_all=True).detect(photo, landmarks=True) of facenet-pytorch 2.6.0 answers, its code
# and weights unchanged, torch 2.14 on a CPU: box, chance,
# x and y of eyes and nose, of the mouth's corners.
EXPECTED = {
    "astronaut": (
        [181.0514, 62.1561, 267.7473, 172.0502],
        0.999998,
        [205.0109, 101.7274, 246.7626, 103.7141, 224.6714, 128.9650],
        [201.7161, 139.2462, 245.2656, 141.8570],
    ),
    "camera": (
        [199.2163, 118.9256, 254.2662, 192.2697],
        0.999100,
        [234.3888, 147.1582, 252.3169, 149.6123, 250.7480, 169.1158],
        [231.2332, 180.4072, 243.4513, 181.9436],
    ),
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""


@pytest.fixture(scope="module")
def detector() -> MTCNN:
    return mtcnn()


def pixels(name: str) -> Tensor:
    return pil_to_tensor(photo(name)).float() / 255


@pytest.mark.parametrize("name", EXPECTED)
def test_the_packages_boxes_come_out(detector: MTCNN, name: str) -> None:
    box, score, eyes_and_nose, mouth = EXPECTED[name]
    landmarks = torch.tensor([*eyes_and_nose, *mouth]).view(1, 5, 2)
    (found,) = detector([pixels(name)])
    torch.testing.assert_close(found["boxes"], torch.tensor([box]), rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], torch.tensor([score]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found["landmarks"], landmarks, rtol=0, atol=1e-3)
    assert found["labels"].tolist() == [1]


def test_a_crowd_comes_out_as_from_the_packages_own_code(detector: MTCNN) -> None:
    sheet = face_sheet(3)  # composed: 9 faces of LFW
    code = packages.load_module("facenet-pytorch", "facenet_pytorch.models.mtcnn")
    theirs = code.MTCNN(keep_all=True, select_largest=False)
    boxes, scores, landmarks = theirs.detect(sheet, landmarks=True)
    (found,) = detector([pil_to_tensor(sheet).float() / 255])
    assert len(found["boxes"]) >= 7
    for name, expected in (("boxes", boxes), ("scores", scores), ("landmarks", landmarks)):
        values = torch.from_numpy(np.asarray(expected, np.float32))
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-3)


def test_a_photo_without_people_has_no_face(detector: MTCNN) -> None:
    (found,) = detector([pixels("coffee")])
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)
    assert found["landmarks"].shape == (0, 5, 2)


def test_images_of_a_list_are_looked_at_one_by_one(detector: MTCNN) -> None:
    images = [pixels("camera")[:, 60:260, 120:320], torch.zeros(3, 60, 40), torch.zeros(3, 5, 5)]
    found = detector(images)
    assert [len(faces["boxes"]) for faces in found] == [1, 0, 0]
    torch.testing.assert_close(found[0]["boxes"], detector(images[:1])[0]["boxes"])


def test_faces_much_smaller_than_asked_for_are_left_out() -> None:
    image = pixels("camera")  # whose face is 55 pixels wide
    assert len(mtcnn(min_face=250)([image])[0]["boxes"]) == 0


def test_what_is_no_image_is_refused(detector: MTCNN) -> None:
    with pytest.raises(ArgumentError, match=r"images\[1\] must be image\[3, H, W\].*uint8"):
        detector([torch.zeros(3, 30, 30), torch.zeros(3, 30, 30, dtype=torch.uint8)])
    with pytest.raises(ArgumentError, match=r"images\[0\].*float32\[1, 30, 30\]"):
        detector(torch.zeros(1, 1, 30, 30))
    with pytest.raises(ArgumentError, match="min_face must be 12 pixels or more"):
        MTCNN(min_face=5)
