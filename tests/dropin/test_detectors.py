"""torchvision's detectors, split and on our kernels, find what they found.

In float64: random weights give scores that differ little, and rounding would change their order.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.dropin.detectors import with_our_kernels

ops = pytest.importorskip("torchvision.ops")
detection = pytest.importorskip("torchvision.models.detection")
Detections = list[dict[str, Tensor]]


class _Backbone(nn.Module):
    """Two maps, at a quarter and an eighth of the photo."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 8, 3, 4, 1)
        self.coarse = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.fine(x).relu()
        return {"0": fine, "1": self.coarse(fine).relu()}


def photos(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.rand(3, *size, dtype=torch.float64) for size in sizes]


def both(model: nn.Module, images: list[Tensor]) -> tuple[Detections, Detections]:
    """Of the model, and of the optimised one at its second call."""
    model = model.double().eval()
    fast = cvperf.optimize(model)
    with torch.no_grad():
        fast(images)
        return model(images), fast(images)


def mask_rcnn() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = detection.MaskRCNN(
        _Backbone(),
        num_classes=3,
        min_size=64,
        max_size=96,
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(((16,), (32,)), ((1.0,),) * 2),
        box_roi_pool=ops.MultiScaleRoIAlign(["0", "1"], 3, 2),
        mask_roi_pool=ops.MultiScaleRoIAlign(["0", "1"], 6, 2),
        box_score_thresh=0.0,
        box_detections_per_img=20,
    )
    return model


def test_mask_rcnn_finds_what_it_found() -> None:
    expected, found = both(mask_rcnn(), photos((60, 80), (70, 50)))
    assert all(len(each["masks"]) for each in expected)
    torch.testing.assert_close(found, expected)


def test_mask_rcnn_finds_nothing() -> None:
    model = mask_rcnn()
    model.roi_heads.score_thresh = 1.0  # type: ignore[union-attr]
    expected, found = both(model, photos((60, 80)))
    assert expected[0]["masks"].shape == (0, 1, 60, 80)
    torch.testing.assert_close(found, expected)


def test_masks_of_other_classes_are_not_made() -> None:
    model = mask_rcnn().double().eval()
    fast = cvperf.optimize(model)
    images = photos((60, 80))
    fast(images)
    names = [part.name for part in fast.explain().parts]
    assert "roi_heads" in names
    (heads,) = (part for part in fast.explain().parts if part.name == "roi_heads")
    (masks,) = (part for part in heads.parts if part.name == "roi_heads.mask_predictor")
    assert masks.kind == "MaskOfClass"
    assert type(model.roi_heads.mask_predictor).__name__ == "MaskRCNNPredictor"  # type: ignore[union-attr]


class _MyPredictor(nn.Conv2d):
    """A mask predictor that is not torchvision's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


def test_another_mask_predictor_is_left_as_it_is() -> None:
    model = mask_rcnn()
    model.roi_heads.mask_predictor = _MyPredictor(256, 3, 1)  # type: ignore[union-attr]
    expected, found = both(model, photos((60, 80)))
    assert len(expected[0]["masks"])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("score_thresh", [0.0, 0.3, 1.0])
def test_ssd_finds_what_it_found(score_thresh: float) -> None:
    torch.manual_seed(0)
    model = detection.ssd.SSD(
        _Backbone(),
        detection.anchor_utils.DefaultBoxGenerator([[2], [2]], 0.2, 0.9),
        size=(64, 64),
        num_classes=4,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        head=detection.ssd.SSDHead([8, 8], [4, 4], 4),
        score_thresh=score_thresh,
        topk_candidates=50,
        detections_per_img=30,
    )
    expected, found = both(model, photos((60, 80), (64, 64)))
    assert all((len(each["boxes"]) == 0) == (score_thresh == 1.0) for each in expected)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("score_thresh", [0.0, 0.5, 1.0])
def test_retinanet_finds_what_it_found(score_thresh: float) -> None:
    torch.manual_seed(0)
    model = detection.retinanet.RetinaNet(
        _Backbone(),
        num_classes=4,
        min_size=64,
        max_size=96,
        anchor_generator=detection.anchor_utils.AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2),
        score_thresh=score_thresh,
        topk_candidates=50,
        detections_per_img=30,
    )
    nn.init.zeros_(model.head.classification_head.cls_logits.bias)  # scores about a half
    expected, found = both(model, photos((60, 80), (64, 64)))
    assert all((len(each["boxes"]) == 0) == (score_thresh == 1.0) for each in expected)
    torch.testing.assert_close(found, expected)


def test_images_are_channels_last_from_the_first_layer_on() -> None:
    transform = with_our_kernels(mask_rcnn().transform)
    images, _ = transform(photos((60, 80), (70, 50)))
    assert images.tensors.is_contiguous(memory_format=torch.channels_last)


def test_the_model_itself_is_left_as_it_was() -> None:
    model = mask_rcnn()
    both(model, photos((60, 80)))
    kinds = {type(module) for module in model.modules()}
    assert detection.transform.GeneralizedRCNNTransform in kinds
    assert ops.MultiScaleRoIAlign in kinds


class _Alike(_Backbone):
    """Two maps of one size, as torchvision's MobileNetV3 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(8, 8, 3, 1, 1)


def test_levels_of_one_size_are_torchvisions() -> None:
    model = mask_rcnn()
    model.backbone = _Alike()
    expected, found = both(model, photos((60, 80)))
    assert all(len(each["boxes"]) for each in expected)
    torch.testing.assert_close(found, expected)
