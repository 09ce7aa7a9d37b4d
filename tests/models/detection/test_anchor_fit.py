"""Anchors fitted to boxes: clusters, coverage, sizes and ratios, the picture, composed scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cvperf.data.sets.composed import Detection
from cvperf.data.sets.composing import Layout, Stock
from cvperf.errors import ArgumentError
from cvperf.models.detection.anchor_fit import (
    cluster_shapes,
    coverage,
    draw_coverage,
    every_shape,
    fit_anchors,
    shape_coverage,
    shapes_of,
)
from cvperf.models.detection.anchors import AnchorGenerator
from cvperf.models.detection.one_stage import octaves

pytestmark = pytest.mark.usefixtures("one_thread")


def around(*middles: tuple[float, float], count: int = 40) -> Tensor:
    """Widths and heights within a tenth of each of some shapes."""
    torch.manual_seed(3)
    spread = 1 + 0.1 * (2 * torch.rand(len(middles), count, 2) - 1)
    return (torch.tensor(middles)[:, None] * spread).flatten(0, 1)


def test_clusters_find_the_shapes_that_boxes_lie_around() -> None:
    middles = [(10.0, 30.0), (40.0, 20.0), (80.0, 90.0)]
    found = cluster_shapes(around(*middles), 3)
    torch.testing.assert_close(found, torch.tensor(middles), rtol=0.05, atol=0)


def test_clusters_are_the_same_for_the_same_seed_whatever_else_is_drawn() -> None:
    shapes = 5 + 60 * torch.rand(200, 2)
    first = cluster_shapes(shapes, 6, seed=1)
    torch.rand(9)
    assert torch.equal(cluster_shapes(shapes, 6, seed=1), first)


def test_a_cluster_for_each_shape_covers_it_exactly() -> None:
    shapes = torch.tensor([[4.0, 9], [30, 30], [70, 8]])
    assert cluster_shapes(shapes, 3).tolist() == [[4, 9], [70, 8], [30, 30]]
    assert shape_coverage(shapes, cluster_shapes(shapes, 3)).mean_iou == 1


def test_equal_shapes_make_equal_clusters() -> None:
    assert cluster_shapes(torch.full((5, 2), 7.0), 2).tolist() == [[7, 7], [7, 7]]


def test_coverage_counts_boxes_and_their_anchors() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 66], [200, 200, 210, 210]])
    found = coverage([boxes[:1], boxes[1:]], anchors, (0.5, 0.7, 0.9))
    assert found.recall == pytest.approx({0.5: 2 / 3, 0.7: 1 / 3, 0.9: 1 / 3})
    assert found.matches == pytest.approx({0.5: 1.0, 0.7: 2 / 3, 0.9: 1 / 3})
    assert found.mean_iou == pytest.approx((1 + 10 / 16) / 3)
    assert "IoU 0.50:  66.7% of boxes, 1.0 anchors each" in str(found)


def test_each_level_has_the_typical_sizes_and_ratios_of_its_boxes() -> None:
    shapes = around((10.0, 40.0), (80.0, 40.0))  # areas 20 ** 2 and 56.6 ** 2
    sizes, ratios = fit_anchors(shapes, (8, 16, 32), per_level=1)
    assert sizes[0] == pytest.approx((20,), rel=0.05)
    assert ratios[0] == pytest.approx((4,), rel=0.05)
    assert sizes[1] == pytest.approx((56.6,), rel=0.05)
    assert ratios[1] == pytest.approx((0.5,), rel=0.05)
    assert (sizes[2], ratios[2]) == ((128,), (1,))  # no box is of this level


def test_sizes_and_ratios_go_into_the_generator() -> None:
    sizes, ratios = fit_anchors(4 + 80 * torch.rand(300, 2), (8, 16, 32, 64))
    assert AnchorGenerator(sizes, ratios).counts() == [9] * 4
    for level in (*sizes, *ratios):
        assert list(level) == sorted(level)


def test_every_shape_is_what_the_generator_makes() -> None:
    sizes, ratios = [(16, 32), (64, 128)], (0.25, 1.0, 4.0)
    made = torch.cat(AnchorGenerator(sizes, ratios).shapes)
    wide = (made[:, 2:] - made[:, :2]).tolist()
    assert sorted(every_shape(sizes, ratios).tolist()) == sorted(wide)


def test_boxes_are_measured_as_the_detector_sees_them() -> None:
    samples = [
        (torch.empty(3, 100, 200), {"boxes": torch.tensor([[10.0, 10, 20, 40]])}),
        (torch.empty(3, 50, 50), {"boxes": torch.empty(0, 4)}),
        (torch.empty(3, 50, 400), {"boxes": torch.tensor([[0.0, 0, 8, 4]])}),
    ]
    assert shapes_of(samples).tolist() == [[10, 30], [8, 4]]
    assert shapes_of(samples, min_size=200, max_size=600).tolist() == [[20, 60], [12, 6]]


def scenes(count: int = 60) -> Detection:
    """Composed scenes of tall and wide bars, so that no data set has to be there."""
    items = np.zeros((8, 28, 28), np.uint8)
    for i, item in enumerate(items):
        long, short = 28 - i, 8 + i
        height, width = (long, short) if i % 2 else (short, long)
        item[:height, :width] = 255
    stock = Stock(items, np.arange(8), [np.full((150, 160, 3), 60, np.uint8)])
    return Detection(stock, Layout(128, (2, 5), (0.7, 2.0)), count, (0,))


def test_fitted_anchors_cover_composed_scenes_better() -> None:
    composed = scenes()
    shapes = shapes_of(composed)
    usual = every_shape([(32,), (64,), (128,)], (0.5, 1.0, 2.0))
    fitted = cluster_shapes(shapes, len(usual))
    before, after = shape_coverage(shapes, usual), shape_coverage(shapes, fitted)
    assert after.mean_iou > before.mean_iou + 0.05
    for iou in (0.6, 0.7, 0.8):
        assert after.recall[iou] > before.recall[iou]
    # Where they lie on the maps of a detector, too.
    boxes = [target["boxes"].as_subclass(Tensor) for _, target in composed]
    maps = [torch.empty(1, 1, 128 // stride, 128 // stride) for stride in (8, 16, 32)]
    laid = AnchorGenerator(*fit_anchors(shapes, (8, 16, 32)))((128, 128), maps)
    plain = AnchorGenerator(octaves(16, 3))((128, 128), maps)  # as many
    before, after = coverage(boxes, plain), coverage(boxes, laid)
    assert after.mean_iou > before.mean_iou
    assert after.recall[0.7] > before.recall[0.7] + 0.05


def test_the_picture_has_every_box_and_every_anchor(tmp_path: Path) -> None:
    shapes, anchors = around((10, 30), (40, 20)), torch.tensor([[10.0, 30], [40, 20]])
    figure = draw_coverage(shapes, anchors)
    boxes, marks = figure.axes[0].collections
    assert len(boxes.get_offsets()) == 80
    assert marks.get_offsets().tolist() == anchors.tolist()
    assert boxes.get_array().min() > 0.7
    figure.savefig(tmp_path / "coverage.png")
    assert (tmp_path / "coverage.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_shapes(torch.rand(3, 2) + 1, 4), "count must be 1 to the 3 shapes"),
        (lambda: cluster_shapes(torch.zeros(3, 2), 1), "widths and heights above 0, got 0.0"),
        (lambda: cluster_shapes(torch.rand(3, 4), 1), r"\[n, 2\].*float32\[3, 4\]"),
        (lambda: fit_anchors(torch.rand(3, 2) + 1, (0, 8)), r"1 or more, got \[0, 8\] and 3"),
        (lambda: shapes_of([]), r"samples must have boxes"),
        (lambda: coverage(torch.empty(0, 4), torch.rand(2, 4)), r"boxes must be \[n, 4\]"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
