"""SSD, RetinaNet, YOLO and YOLACT: the agreed call, what they learn, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from cvperf.errors import ArgumentError
from cvperf.models.detection import create_detector
from cvperf.models.detection.one_stage import best_of_each_class, best_scores, by_place, pick

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("ssd", "retinanet", "yolo", "yolact")
CLASSES = 4
STEPS = 120
# Batch norm's statistics of 2 x 2 places, which YOLO would have, are not those of evaluation.
LEARNING: dict[str, Any] = {
    "ssd": {"size": 64},
    "yolo": {"width": 8, "resize": {"min_size": 128}},
}
each_detector = pytest.mark.parametrize("name", NAMES)


def scene(*boxes: tuple[int, int, int, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Bright rectangles on dark noise: red is class 1, green class 2, blue class 3."""
    image, masks = 0.2 * torch.rand(3, 64, 64), torch.zeros(len(boxes), 64, 64, dtype=torch.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        masks[i, y1:y2, x1:x2] = 1
        image[i % 3, y1:y2, x1:x2] = 1
    labels = torch.arange(len(boxes)) % 3 + 1
    wanted = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return image, {"boxes": wanted, "labels": labels, "masks": masks}


def scenes() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    pairs = scene((4, 6, 30, 28), (32, 30, 60, 62)), scene((20, 16, 44, 48)), scene()
    images, targets = zip(*pairs, strict=True)
    return list(images), list(targets)


def learnt(name: str, images: list[Tensor], targets: list[dict[str, Tensor]]) -> nn.Module:
    """A detector that has seen the same scenes again and again."""
    model = create_detector(name, CLASSES, **LEARNING.get(name, {}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(STEPS):
        if step == STEPS * 3 // 4:
            optimizer.param_groups[0]["lr"] /= 10
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
    return model.eval()


@each_detector
def test_what_it_has_been_shown_is_what_it_is_surest_of(name: str) -> None:
    images, targets = (each[:2] for each in scenes())
    model = learnt(name, images, targets)
    with torch.no_grad():
        found = model(images)
    for have, want in zip(found, targets, strict=True):
        count = len(want["labels"])
        order = have["labels"][:count].argsort()
        assert have["labels"][order].tolist() == want["labels"].tolist()
        assert (have["scores"][:count] > 0.5).all()
        assert (box_iou(have["boxes"][order], want["boxes"]).diagonal() > 0.8).all()
        if name == "yolact":
            drawn, truth = have["masks"][order, 0] > 0.5, want["masks"].bool()
            both, either = (drawn & truth).sum((1, 2)), (drawn | truth).sum((1, 2))
            assert (both > 0.8 * either).all()


@each_detector
def test_answers_in_pixels_of_each_image_by_falling_score(name: str) -> None:
    model = create_detector(name, CLASSES, score_threshold=0.0, max_detections=20).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 40, 90)]
    with torch.no_grad():
        found = model(images)
    for image, have in zip(images, found, strict=True):
        height, width = image.shape[1:]
        count = len(have["scores"])
        assert 0 < count <= 20
        assert have["boxes"].shape == (count, 4)
        assert have["boxes"].dtype == have["scores"].dtype == torch.float32
        assert have["labels"].dtype == torch.int64
        assert set(have["labels"].tolist()) <= {1, 2, 3} | ({0} if name == "retinanet" else set())
        assert (have["scores"].diff() <= 0).all()
        assert have["boxes"].min() >= 0
        assert (have["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert ("masks" in have) == (name == "yolact")
        if "masks" in have:
            assert have["masks"].shape == (count, 1, height, width)
            assert 0 <= have["masks"].min() <= have["masks"].max() <= 1


@each_detector
def test_a_batch_as_one_tensor_is_the_same_as_a_list(name: str) -> None:
    model = create_detector(name, CLASSES, score_threshold=0.0, max_detections=5).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(model(images), model(list(images)), strict=True):
            for key in one:
                assert torch.equal(one[key], other[key])


@each_detector
def test_images_without_objects_train(name: str) -> None:
    model = create_detector(name, CLASSES)
    image, target = scene()
    losses = model([image, image], [target, target])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@each_detector
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    def step() -> list[Tensor]:
        torch.manual_seed(5)
        model = create_detector(name, CLASSES)
        losses = model(*scenes())
        sum(losses.values()).backward()
        return [*losses.values(), *(each.grad for each in model.parameters())]

    for one, other in zip(step(), step(), strict=True):
        assert torch.equal(one, other)


@each_detector
def test_every_parameter_takes_part_in_the_losses(name: str) -> None:
    model = create_detector(name, CLASSES)
    sum(model(*scenes()).values()).backward()
    assert not [key for key, each in model.named_parameters() if each.grad is None]


@each_detector
def test_a_residual_network_serves_as_backbone(name: str) -> None:
    options: dict[str, Any] = {"size": 64} if name == "ssd" else {"resize": {"min_size": 64}}
    model = create_detector(name, CLASSES, backbone="resnet18", **options)
    losses = model(*scenes())
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        assert len(model.eval()([torch.rand(3, 50, 70)])) == 1


@each_detector
def test_targets_that_cannot_be_learnt_are_named(name: str) -> None:
    model = create_detector(name, CLASSES)
    image, target = scene((4, 6, 30, 28))
    with pytest.raises(ArgumentError, match="targets must be one dict for each of 1 images"):
        model([image])
    with pytest.raises(ArgumentError, match=r"x1 < x2"):
        model([image], [{**target, "boxes": torch.tensor([[5.0, 5, 5, 9]])}])


def test_masks_are_asked_for_where_they_are_learnt() -> None:
    image, target = scene((4, 6, 30, 28))
    del target["masks"]
    with pytest.raises(ArgumentError, match="has no masks"):
        create_detector("yolact", CLASSES)([image], [target])


@pytest.mark.parametrize("name", ["retinanet", "yolact"])
def test_levels_with_unlike_numbers_of_anchors_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="as many anchors on each level"):
        create_detector(name, CLASSES, anchors=[[8], [16, 24], [32], [64]])


@each_detector
def test_an_unknown_backbone_is_named(name: str) -> None:
    with pytest.raises(ArgumentError, match="unknown backbone 'resnet5'"):
        create_detector(name, CLASSES, backbone="resnet5")


# --- the choice of boxes --------------------------------------------------------------------------


def test_answers_lie_as_anchors_do() -> None:
    # Each answer says its anchor, row, column and number in the anchor.
    answers = torch.empty(1, 6, 2, 3)
    for anchor in range(3):
        for number in range(2):
            places = torch.arange(6).view(2, 3)
            answers[0, anchor * 2 + number] = places * 100 + anchor * 10 + number
    flat = by_place(answers, 2)[0]
    expected = [[place * 100 + anchor * 10 + i for i in (0, 1)] for place in range(6)
                for anchor in range(3)]  # fmt: skip
    assert flat.tolist() == expected


SCORES = torch.tensor([[0.9, 0.1], [0.3, 0.8], [0.5, 0.7]])


@pytest.mark.parametrize(
    ("choose", "most", "expected"),
    [
        (best_scores, 3, [(0.9, 0, 0), (0.8, 1, 1), (0.7, 2, 1)]),
        (best_scores, 9, [(0.9, 0, 0), (0.8, 1, 1), (0.7, 2, 1), (0.5, 2, 0), (0.3, 1, 0)]),
        (best_of_each_class, 1, [(0.9, 0, 0), (0.8, 1, 1)]),
        (
            best_of_each_class,
            9,
            [(0.9, 0, 0), (0.5, 2, 0), (0.3, 1, 0), (0.8, 1, 1), (0.7, 2, 1)],
        ),
    ],
)
def test_the_best_scores_above_a_threshold(
    choose: Callable[..., Any], most: int, expected: list[tuple[float, int, int]]
) -> None:
    scores, rows, columns = choose(SCORES, 0.2, most)
    torch.testing.assert_close(scores, torch.tensor([each[0] for each in expected]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [e[1:] for e in expected]


def test_boxes_are_cut_to_the_image_before_they_are_compared() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 90], [0, 0, 10, 10], [0, 0, 10, 10]])
    found = {
        "boxes": boxes,
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 1, 2]),
    }
    kept = pick(found, (10, 10), 0.5, 5)
    assert kept["labels"].tolist() == [1, 2]
    assert kept["boxes"].tolist() == [[0, 0, 10, 10]] * 2
