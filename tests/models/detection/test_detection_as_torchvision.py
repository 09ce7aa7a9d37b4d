"""Faster and Mask R-CNN load torchvision's weights and answer, and learn, as torchvision's do."""

import pytest
import torch
from torch import nn
from torchvision.models import detection as theirs_of

from cvperf.models.detection import create_detector

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 7
SIZE = {"min_size": 96, "max_size": 128}
FEW = {
    "rpn_post_nms_top_n_train": 100,
    "rpn_post_nms_top_n_test": 40,
    "box_batch_size_per_image": 32,
    "box_detections_per_img": 10,
}
PAIRS = {
    "fasterrcnn_resnet50_fpn": ("faster-rcnn", 1),
    "fasterrcnn_resnet50_fpn_v2": ("faster-rcnn", 2),
    "maskrcnn_resnet50_fpn": ("mask-rcnn", 1),
    "maskrcnn_resnet50_fpn_v2": ("mask-rcnn", 2),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """torchvision's model with random weights that detect much, and ours with the same."""
    torch.manual_seed(0)
    make = getattr(theirs_of, name)
    theirs = make(weights=None, weights_backbone=None, num_classes=CLASSES, **SIZE, **FEW)
    with torch.no_grad():
        for key, weight in theirs.named_parameters():
            if key.endswith("bn3.weight"):
                weight.fill_(0.2)  # else the numbers grow from block to block
            if "cls_score.weight" in key or "cls_logits.weight" in key:
                weight.mul_(30)  # else every class is as likely
            if "bbox_pred.weight" in key:
                weight.mul_(3)
    detector, version = PAIRS[name]
    ours = create_detector(
        detector,
        CLASSES,
        backbone="resnet50",
        version=version,
        resize=SIZE,
        rpn={"after_nms": (100, 40)},
        roi_heads={"samples": 32, "max_detections": 10},
    )
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def images() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(3, 96, 128), torch.rand(3, 140, 100)]


def targets() -> list[dict[str, torch.Tensor]]:
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    masks[0, 20:60, 10:50] = 1
    masks[1, 30:90, 60:120] = 1
    none = torch.zeros(0, 140, 100, dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [60.0, 30.0, 120.0, 90.0]])
    return [
        {"boxes": boxes, "labels": torch.tensor([1, 6]), "masks": masks},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": none},
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_detections_of_torchvisions_weights_are_torchvisions(name):
    theirs, ours = pair(name)
    with torch.no_grad():
        wanted, found = theirs.eval()(images()), ours.eval()(images())
    for want, have in zip(wanted, found, strict=True):
        assert len(want["boxes"]) == 10
        assert want.keys() == have.keys()
        for key in want:
            torch.testing.assert_close(have[key], want[key], rtol=1e-4, atol=1e-4)


def test_losses_after_the_same_seed_are_torchvisions():
    theirs, ours = pair("maskrcnn_resnet50_fpn")
    theirs.transform.torch_choice = lambda sizes: sizes[-1]  # ours has no size to draw
    losses = []
    for model in (theirs, ours):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # the variance of few numbers makes much of a rounding
        torch.manual_seed(2)
        losses.append(model(images(), targets()))
    wanted, found = losses
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert wanted[key] > 0
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-4, atol=1e-4)


def test_weights_under_their_old_names_load():
    model = create_detector("mask-rcnn", CLASSES)
    weights = dict(model.state_dict())
    for layer in range(4):
        for kind in ("weight", "bias"):
            new = f"roi_heads.mask_head.{layer}.0.{kind}"
            weights[f"roi_heads.mask_head.mask_fcn{layer + 1}.{kind}"] = weights.pop(new)
    weights["rpn.head.conv.weight"] = weights.pop("rpn.head.conv.0.0.weight")
    model.load_state_dict(weights, strict=True)
