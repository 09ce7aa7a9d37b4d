"""The race of detectors: right answers pass, wrong ones do not, and weights are what they say."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from cvperf.bench.timing import Timing
from cvperf.benchmarks import detectors, zoo_detectors
from cvperf.benchmarks.detectors import FLOAT32, INT8_BACKBONE, Detector, Row
from cvperf.benchmarks.rounding import rounded

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 96
TINY = replace(detectors.DETECTORS[0], side=SIDE)
TIMINGS = (Timing((2.0, 4.0, 3.0)), Timing((1.5, 3.0, 2.25)), Timing((1.0, 2.0, 1.5)))
ROW = Row("a_detector", "INT8", *TIMINGS, "as it should be", True)


@pytest.fixture(autouse=True)
def photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made up, so that none is fetched."""
    monkeypatch.setattr(zoo_detectors, "square", square)


def square(name: str, side: int) -> torch.Tensor:
    """Blobs of colour, smooth as photos are, and of like ranges: INT8 is calibrated with others."""
    own, shared = (
        torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        for seed in (sum(name.encode()), 0)
    )
    coarse = 0.3 * own + 0.7 * shared
    return F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)[0]


def test_mask_rcnn_is_raced_in_float_and_on_integers_in_its_backbone() -> None:
    pytest.importorskip("torchao")
    one, other = detectors.race(TINY, (FLOAT32, INT8_BACKBONE), rounds=2)
    assert (one.way, other.way) == ("float32", "INT8, backbone alone")
    assert one.eager == other.eager, "one eager for all ways"
    for row in (one, other):
        samples = [len(each.samples_ms) for each in (row.eager, row.channels_last, row.ours)]
        assert samples == [2, 2, 2]
        assert row.right, row.check
    assert " px, scores within " in one.check
    assert one.check.endswith(" masks")
    assert "cosine of the features" in other.check


def test_a_detector_has_frozen_norms_with_the_photos_statistics() -> None:
    def built() -> Any:
        return detectors.build(TINY, [square(name, SIDE) for name in ("one", "two")])

    model = built()
    assert not any(module.training for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(norms) == 53
    assert all(float(norm.running_mean.abs().max()) > 1e-4 for norm in norms)
    assert (model.transform.min_size, model.transform.max_size) == ((SIDE,), SIDE)
    again = built().state_dict()
    assert all(torch.equal(again[name], each) for name, each in model.state_dict().items())


def test_only_the_backbone_is_chosen() -> None:
    module = nn.Identity()
    assert detectors.in_backbone(module, "backbone.body.conv1")
    assert not detectors.in_backbone(module, "rpn.head.conv")
    assert not detectors.in_backbone(module, "")


def test_ways_of_mask_rcnn_are_three_and_of_others_two() -> None:
    assert [len(detectors.ways(each)) for each in detectors.DETECTORS] == [3, 2, 2, 2]


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({}, True),
        ({"same_boxes": 94}, False),
        ({"same_boxes": 0}, False),
        ({"same_masks": 90}, True),
        ({"same_masks": 85}, False),
    ],
)
def test_boxes_and_masks_decide_on_float(change: dict[str, Any], right: bool) -> None:
    found = {
        "boxes": 100, "torch_boxes": 100, "same_boxes": 98, "largest_px": 0.01,
        "largest_score": 1e-5, "same_masks": 96,
    }  # fmt: skip
    said, verdict = detectors._agreed(found | change)
    assert verdict is right
    assert said.startswith(f"{(found | change)['same_boxes']} of 100 boxes")


def test_features_decide_on_integers_at_the_worst_level() -> None:
    assert detectors.judged([0.9, 0.7], [0.9, 0.7])[1]
    assert detectors.judged([0.85, 0.5], [0.9, 0.7])[1]
    assert not detectors.judged([0.9, 0.3], [0.9, 0.7])[1]
    assert not detectors.judged([0.7, 0.7], [0.9, 0.7])[1]
    assert detectors.judged([1.0], [1.0])[1]
    exact = {"fine": torch.tensor([3.0, 4.0]), "coarse": torch.tensor([1.0, 0.0])}
    found = {"coarse": torch.tensor([0.0, 1.0]), "fine": torch.tensor([6.0, 8.0])}
    assert detectors.cosines(found, exact) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_rounding_is_that_of_8_bits_a_filter() -> None:
    layer = nn.Conv2d(3, 4, 3, bias=False)
    with torch.no_grad():
        layer.weight[1] *= 1000  # a scale of all filters would lose the others
    image = torch.rand(1, 3, 9, 9) - 0.3
    layer.requires_grad_(False)
    exact, found = layer(image), rounded(nn.Sequential(layer))(image)
    apart = (found - exact).abs().amax((0, 2, 3)) / exact.abs().amax((0, 2, 3))
    assert float(apart.min()) > 1e-5
    assert float(apart.max()) < 0.02
    assert torch.equal(layer(image), exact), "the original is as it was"
    filters = rounded(nn.Sequential(layer))[0].weight  # type: ignore[index]
    assert all(len(each.unique()) <= 255 for each in filters)


def test_masks_are_compared_where_boxes_are_the_same() -> None:
    eager = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [4, 4, 8, 8]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.ones(2),
        "masks": torch.zeros(2, 1, 8, 8),
    }
    eager["masks"][0, :, :4, :4] = 0.9
    assert zoo_detectors.agreement(eager, eager)["same_masks"] == 2
    other = {name: each[[1, 0]].clone() for name, each in eager.items()}
    assert zoo_detectors.agreement(other, eager)["same_masks"] == 2
    other["masks"][1, :, :4, :1] = 0.0  # a quarter of the only mask that has anything
    assert zoo_detectors.agreement(other, eager)["same_masks"] == 1


def test_a_table_has_medians_spread_and_ratio(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(detectors.table([ROW, replace(ROW, right=False)]))
    text = out.getvalue()
    assert "3.0 (2.4 to 3.6)" in text
    assert "2.00 (no interval)" in text
    assert "1.50 (no interval)" in text
    assert text.count("as it should be") == 2
    assert text.count("WRONG") == 1

    def race(detector: Detector, chosen: Any, rounds: int) -> list[Row]:
        assert rounds == 3
        return [replace(ROW, detector=detector.name, right=detector.name.startswith("ssd"))]

    monkeypatch.setattr(detectors, "race", race)
    assert detectors.main(["--only", "ssd*", "--rounds", "3", "--threads", "1"]) == 0
    assert detectors.main(["--rounds", "3", "--threads", "1"]) == 1
    with pytest.raises(SystemExit):
        detectors.main(["--only", "yolo"])
    assert "no detector is called 'yolo'; there are maskrcnn_resnet50_fpn," in (
        capsys.readouterr().err
    )
