"""The best boxes of each image, of a whole batch at once."""

import torch

from cvperf.models.detection.detections import clip_boxes, select_detections

SIZES = [(50, 100), (40, 40)]
LIMITS = {"score_threshold": 0.1, "nms_threshold": 0.5, "max_detections": 2}


def select(scores, boxes, images, **changed):
    def boxes_of(rows, classes):
        return boxes[rows]

    return select_detections(scores, boxes_of, images, SIZES, **{**LIMITS, **changed})


def test_overlapping_boxes_of_one_class_become_one_and_of_two_stay():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 1.0, 21.0, 21.0]])
    images = torch.tensor([0, 0])
    (one, none) = select(torch.tensor([[0.8, 0.0], [0.9, 0.0]]), boxes, images)
    assert one["boxes"].tolist() == [[1, 1, 21, 21]]
    assert one["labels"].tolist() == [1]
    assert len(none["boxes"]) == 0
    (both, _) = select(torch.tensor([[0.8, 0.0], [0.0, 0.9]]), boxes, images)
    assert both["labels"].tolist() == [2, 1]


def test_boxes_of_two_images_do_not_suppress_each_other():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0]] * 2)
    found = select(torch.tensor([[0.8], [0.9]]), boxes, torch.tensor([0, 1]))
    assert [round(each["scores"].item(), 1) for each in found] == [0.8, 0.9]


def test_an_image_keeps_only_its_best():
    corner = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    boxes = torch.cat([corner, corner + 8], dim=1)
    found = select(torch.tensor([[0.2], [0.4], [0.3], [0.05]]), boxes, torch.zeros(4).long())
    torch.testing.assert_close(found[0]["scores"], torch.tensor([0.4, 0.3]))


def test_boxes_are_cut_to_their_image_and_slivers_left_out():
    boxes = torch.tensor([[-5.0, -5.0, 60.0, 60.0], [45.0, 0.0, 60.0, 10.0]])
    found = select(torch.tensor([[0.9], [0.8]]), boxes, torch.tensor([1, 1]))
    assert found[1]["boxes"].tolist() == [[0, 0, 40, 40]]


def test_clipping_knows_each_boxs_image():
    boxes = torch.tensor([[[-1.0, -1.0, 200.0, 200.0]], [[-1.0, -1.0, 200.0, 200.0]]])
    clipped = clip_boxes(boxes, SIZES, torch.tensor([[0], [1]]))
    assert clipped.tolist() == [[[0, 0, 100, 50]], [[0, 0, 40, 40]]]
