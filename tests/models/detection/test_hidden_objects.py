"""What objects that others hide need: Soft-NMS, a head of parts, a loss by what is seen."""

import pytest
import torch

from cvperf import ops
from cvperf.errors import ArgumentError
from cvperf.models.detection import create_detector
from cvperf.models.detection.box_head import PartHead
from cvperf.models.detection.detections import select_detections
from tests.models.detection.scenes import scene

pytestmark = pytest.mark.usefixtures("one_thread")


def selected(scores: torch.Tensor, boxes: torch.Tensor, images: torch.Tensor, count: int):
    return select_detections(
        scores,
        lambda rows, classes: boxes[rows],
        images,
        [(100, 100)] * count,
        score_threshold=0.1,
        nms_threshold=0.5,
        max_detections=10,
        soft_sigma=0.5,
    )


def test_soft_nms_keeps_what_lies_behind_with_a_lower_score():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [4.0, 0.0, 24.0, 20.0]])
    (found,) = selected(torch.tensor([[0.9], [0.8]]), boxes, torch.zeros(2).long(), 1)
    iou = 16 * 20 / (2 * 400 - 16 * 20)
    expected = torch.tensor([0.9, 0.8 * torch.tensor(-(iou**2) / 0.5).exp().item()])
    torch.testing.assert_close(found["scores"], expected)
    assert torch.equal(found["boxes"], boxes)


def test_soft_nms_is_of_each_class_and_image_alone():
    box = torch.tensor([[0.0, 0.0, 20.0, 20.0]] * 3)
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8], [0.7, 0.0]])
    first, second, third = selected(scores, box, torch.tensor([0, 0, 2]), 3)
    assert first["labels"].tolist() == [1, 2]
    torch.testing.assert_close(first["scores"], torch.tensor([0.9, 0.8]))
    assert second["boxes"].shape == (0, 4)
    torch.testing.assert_close(third["scores"], torch.tensor([0.7]))


def test_soft_nms_of_many_boxes_is_the_op_class_by_class():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 10 + torch.rand(60, 2, generator=generator) * 30], 1)
    scores = torch.rand(60, 2, generator=generator)
    (found,) = selected(scores, boxes, torch.zeros(60).long(), 1)
    expected = []
    for label in (0, 1):
        own = scores[:, label] > 0.1
        _, decayed = ops.soft_nms(
            boxes[own], scores[own, label], method="gaussian", sigma=0.5, score_threshold=0.1
        )
        expected += decayed.tolist()
    torch.testing.assert_close(found["scores"], torch.tensor(sorted(expected)[::-1][:10]))


class LowerPartsCountNothing(torch.nn.Module):
    def forward(self, parts: torch.Tensor) -> torch.Tensor:
        weights = torch.zeros(len(parts), 1, 3, 3)
        weights[:, :, 2] = -1e9
        return weights


def test_what_is_in_a_part_of_no_weight_does_not_matter():
    torch.manual_seed(0)
    head, patch = PartHead(4, 7, 16), torch.rand(5, 4, 7, 7)
    other = patch.clone()
    other[:, :, 5:] = torch.rand(5, 4, 2, 7)  # rows that only the lower parts have
    torch.nn.init.zeros_(head.whole.weight)
    assert not torch.equal(head(patch), head(other))
    head.weight = LowerPartsCountNothing()
    assert torch.equal(head(patch), head(other))


@pytest.mark.parametrize("head", ["layers", "convolutions", "parts"])
def test_every_head_learns_the_scene(head):
    torch.manual_seed(0)
    model = create_detector("faster-rcnn", 3, box_head=head)
    image, target = scene()
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    losses = []
    for _ in range(12):
        found = model([image], [target])
        losses.append(float(found["loss_classifier"].detach()))
        optimizer.zero_grad()
        sum(found.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_an_unknown_head_names_the_known():
    with pytest.raises(ArgumentError, match="box_head must be one of layers, convolutions, parts"):
        create_detector("faster-rcnn", 3, box_head="part")


def losses_of(hidden_weight: float, visible: list[float]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = create_detector("faster-rcnn", 3, roi_heads={"hidden_weight": hidden_weight})
    image, target = scene()
    torch.manual_seed(1)
    return model([image], [{**target, "visible": torch.tensor(visible)}])


def test_objects_seen_whole_count_as_ever_and_hidden_ones_more():
    plain, whole = losses_of(0.0, [1.0, 1.0]), losses_of(2.0, [1.0, 1.0])
    hidden = losses_of(2.0, [0.2, 1.0])
    for name, loss in plain.items():
        torch.testing.assert_close(whole[name], loss)
    assert not torch.allclose(hidden["loss_classifier"], plain["loss_classifier"])
    torch.testing.assert_close(hidden["loss_box_reg"], plain["loss_box_reg"])


@pytest.mark.parametrize("visible", [{}, {"visible": torch.ones(3)}])
def test_without_what_is_seen_of_each_box_the_weight_is_refused(visible):
    model = create_detector("faster-rcnn", 3, roi_heads={"hidden_weight": 1.0})
    image, target = scene()
    with pytest.raises(ArgumentError, match=r"hidden_weight needs targets with visible \[n\]"):
        model([image], [{**target, **visible}])
