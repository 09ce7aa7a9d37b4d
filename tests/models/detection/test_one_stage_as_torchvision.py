"""RetinaNet and SSD load torchvision's weights and answer, and learn, as torchvision's do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection as theirs_of
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from cvperf.errors import ArgumentError
from cvperf.models.detection import create_detector
from cvperf.models.detection.default_boxes import DefaultBoxes

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 7
SIZE = {"min_size": 96, "max_size": 128}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """torchvision's model with random weights that detect much, and ours with the same."""
    torch.manual_seed(0)
    if name == "retinanet":
        theirs = theirs_of.retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=CLASSES, **SIZE
        )
        ours = create_detector("retinanet", CLASSES, backbone="resnet50", resize=SIZE)
    elif name == "ssd300":
        theirs = theirs_of.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES)
        ours = create_detector("ssd", CLASSES, backbone="vgg16")
    else:
        theirs = theirs_of.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=CLASSES
        )
        ours = create_detector("ssd", CLASSES, backbone="mobilenet_v3_large")
    liven(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


@torch.no_grad()
def liven(model: nn.Module) -> None:
    """Make random weights give scores that differ much, so that there are boxes to compare."""
    batch, _ = model.transform(images())
    for key, weight in model.named_parameters():
        if key.endswith("bn3.weight"):
            weight.fill_(0.2)  # else the numbers grow from block to block
        if key.startswith("head.") and "conv." in key and weight.dim() == 4:
            weight.mul_(3)  # else what passes four of them fades
    if type(model.backbone).__name__.startswith("SSDLite"):  # what passes it fades as well
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train().head(list(model.backbone(batch.tensors).values()))
    logits = model.eval().head(list(model.backbone(batch.tensors).values()))["cls_logits"]
    gain = 0.5 / (logits - logits.mean((0, 1))).std()
    for key, weight in model.head.classification_head.named_parameters():
        last = "cls_logits" in key or "module_list" in key
        if last and weight.dim() == 4 and weight.shape[1] > 1:  # not a depthwise one
            weight.mul_(gain)
        if last and weight.dim() == 1 and "cls_logits" in key:
            weight.fill_(-2.0)


def images() -> list[Tensor]:
    """Soft blobs: in noise, every place looks like every other."""
    torch.manual_seed(1)
    return [
        F.interpolate(torch.rand(1, 3, 5, 6), size, mode="bicubic")[0].clamp(0, 1)
        for size in ((96, 128), (140, 100))
    ]


def targets() -> list[dict[str, Tensor]]:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [60.0, 30.0, 120.0, 90.0]])
    return [
        {"boxes": boxes, "labels": torch.tensor([1, 6])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def among(some: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor:
    """bool [n]: which detections are among others too, but for the last, where a tie may decide.

    Scores that differ by a rounding may have changed places.
    """
    some = {key: values[: len(values) * 9 // 10] for key, values in some.items()}
    same = some["labels"][:, None] == others["labels"]
    same &= (some["scores"][:, None] - others["scores"]).abs() <= 1e-4
    gap = (some["boxes"][:, None] - others["boxes"]).abs()
    return (same & (gap <= 1e-4 + 1e-4 * others["boxes"].abs()).all(2)).any(1)


@pytest.mark.parametrize("name", ["retinanet", "ssd300", "ssdlite320"])
def test_what_torchvisions_weights_find_and_learn_is_torchvisions(name: str) -> None:
    theirs, ours = pair(name)
    with torch.no_grad():
        wanted, found = theirs.eval()(images()), ours.eval()(images())
        for want, have in zip(wanted, found, strict=True):
            assert len(want["boxes"]) > 10
            assert want.keys() == have.keys()
            torch.testing.assert_close(have["scores"], want["scores"], rtol=0, atol=1e-4)
            assert among(want, have).all()
            assert among(have, want).all()
        if name == "retinanet":
            theirs.transform.torch_choice = lambda sizes: sizes[-1]  # ours has no size to draw
        losses = theirs.train()(images(), targets()), ours.train()(images(), targets())
    assert losses[0].keys() == losses[1].keys()
    for key, want in losses[0].items():
        assert want > 0
        torch.testing.assert_close(losses[1][key], want, rtol=1e-4, atol=1e-4)


def test_the_iou_loss_of_retinanet_is_torchvisions() -> None:
    theirs, ours = pair("retinanet")
    theirs.transform.torch_choice = lambda sizes: sizes[-1]
    theirs.head.regression_head._loss_type, ours.box_loss = "giou", "giou"
    with torch.no_grad():
        wanted, found = (each.train()(images(), targets()) for each in (theirs, ours))
    torch.testing.assert_close(found["bbox_regression"], wanted["bbox_regression"])


def test_an_unknown_loss_of_boxes_is_named() -> None:
    with pytest.raises(ArgumentError, match='box_loss must be "l1" or "giou", got \'l2\''):
        create_detector("retinanet", CLASSES, box_loss="l2")


def test_weights_of_retinanet_under_their_old_names_load() -> None:
    model = create_detector("retinanet", CLASSES, backbone="resnet18")
    weights = dict(model.state_dict())
    for key in list(weights):
        for layer in reversed(range(4)):
            new = f"conv.{layer}.0."
            if key.startswith("head.") and new in key:
                weights[key.replace(new, f"conv.{2 * layer}.")] = weights.pop(key)
    model.load_state_dict(weights, strict=True)


@pytest.mark.parametrize("strides", [None, [8, 16, 50]])
def test_default_boxes_are_torchvisions(strides: list[int] | None) -> None:
    ratios, scales = [[2], [2, 3], []], [0.1, 0.35, 0.7, 1.1]
    maps = [torch.empty(2, 1, *size) for size in ((7, 9), (4, 5), (1, 2))]
    batch = torch.empty(2, 3, 60, 72)
    theirs = DefaultBoxGenerator(ratios, scales=scales, steps=strides)
    wanted = theirs(ImageList(batch, [(60, 72)] * 2), maps)[0]
    ours = DefaultBoxes(ratios, scales, strides)
    assert torch.equal(ours((60, 72), maps), wanted)
    assert ours.counts() == theirs.num_anchors_per_location()


def test_scales_that_do_not_fit_the_ratios_are_named() -> None:
    with pytest.raises(ArgumentError, match="scales must be one more than the 2 levels"):
        DefaultBoxes([[2], [2]], [0.1, 0.5])
