"""Images become one batch and detections come back, as in torchvision."""

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from cvperf.errors import ArgumentError
from cvperf.models.detection.transform import IMAGE_MEAN, IMAGE_STD, Resize, check_targets


def images() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.rand(3, 100, 150), torch.rand(3, 120, 90)]


def targets() -> list[dict[str, torch.Tensor]]:
    masks = torch.rand(1, 100, 150) > 0.5
    labels = torch.tensor([1])
    one = {"boxes": torch.tensor([[1.0, 2.0, 30.0, 50.0]]), "labels": labels, "masks": masks}
    none = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 120, 90, dtype=torch.bool),
    }
    return [one, none]


def test_a_batch_of_one_image_is_torchvisions():
    theirs = GeneralizedRCNNTransform(160, 200, IMAGE_MEAN, IMAGE_STD).eval()
    wanted, truth = theirs(images()[:1], targets()[:1])
    batch, sizes, resized = Resize(160, 200)(images()[:1], targets()[:1])
    assert sizes == wanted.image_sizes == [(133, 200)]
    torch.testing.assert_close(batch, wanted.tensors, rtol=0, atol=0)
    torch.testing.assert_close(resized[0]["boxes"], truth[0]["boxes"], rtol=0, atol=0)
    assert torch.equal(resized[0]["masks"], truth[0]["masks"])


def test_images_of_several_sizes_are_padded_to_one_batch():
    batch, sizes, resized = Resize(160, 200)(images(), targets())
    assert batch.shape == (2, 3, 224, 224)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert sizes == [(133, 200), (200, 150)]
    assert not batch[0, :, 133:].any()
    assert resized[1]["masks"].shape == (0, 200, 150)


def test_targets_are_left_as_they_were():
    given = targets()
    Resize(160, 200)(images(), given)
    assert torch.equal(given[0]["boxes"], torch.tensor([[1.0, 2.0, 30.0, 50.0]]))


def test_images_may_keep_their_size_or_be_stretched():
    batch, sizes, _ = Resize(min_size=None)(images())
    assert batch.shape == (2, 3, 128, 160)
    assert sizes == [(100, 150), (120, 90)]
    batch, sizes, _ = Resize(fixed_size=(64, 96))(images())
    assert batch.shape == (2, 3, 64, 96)
    assert sizes == [(64, 96)] * 2


def test_detections_come_back_in_the_pixels_of_the_image():
    found = {"boxes": torch.tensor([[0.0, 0.0, 100.0, 50.0]]), "masks": torch.ones(1, 1, 28, 28)}
    (restored,) = Resize().restore([found], [(100, 200)], [(50, 100)])
    assert restored["boxes"].tolist() == [[0.0, 0.0, 50.0, 25.0]]
    assert restored["masks"].shape == (1, 1, 50, 100)
    assert restored["masks"][0, 0, 10, 20] == 1
    assert restored["masks"][0, 0, 40, 20] == 0
    assert found["boxes"][0, 2] == 100


def test_what_is_no_image_is_refused():
    with pytest.raises(ArgumentError, match=r"images\[1\] must be image\[3, H, W\].*float32\[1, 9"):
        Resize()([torch.rand(3, 9, 9), torch.rand(1, 9, 9)])
    with pytest.raises(ArgumentError, match=r"images\[0\].*uint8"):
        Resize()([torch.zeros(3, 9, 9, dtype=torch.uint8)])
    with pytest.raises(ArgumentError, match="images is empty"):
        Resize()([])


def test_targets_that_cannot_be_learnt_from_are_refused():
    one, none = targets()
    with pytest.raises(ArgumentError, match="targets must be one dict for each of 2 images, got N"):
        check_targets(None, images())
    with pytest.raises(ArgumentError, match=r"targets\[0\] has no masks"):
        check_targets([{k: v for k, v in one.items() if k != "masks"}, none], images(), masks=True)
    with pytest.raises(ArgumentError, match=r"targets\[1\] must have boxes\[n, 4\] and labels"):
        check_targets([one, {**none, "labels": torch.ones(3, dtype=torch.int64)}], images())
    with pytest.raises(ArgumentError, match=r"\['masks'\] must be .* \[1, 100, 150\]"):
        check_targets([{**one, "masks": torch.zeros(1, 9, 9)}, none], images(), masks=True)
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    with pytest.raises(ArgumentError, match=r"x1 < x2 and y1 < y2, got \[5.0, 5.0, 5.0, 9.0\]"):
        check_targets([{**one, "boxes": flat}, none], images())
