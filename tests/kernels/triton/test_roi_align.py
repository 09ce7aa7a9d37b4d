"""RoI Align in Triton: both layouts, every dtype, any boxes, one map or a pyramid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.reference.roi_align import (
    multiscale_roi_align,
    multiscale_roi_align_backward,
    roi_align,
    roi_align_backward,
)
from cvperf.errors import UnsupportedError
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import as_on, assert_close, on_triton, to_device

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SETTINGS = [  # samples a bin, aligned, scale
    (2, True, 0.25),
    (3, False, 1.0),
    (6, True, 0.5),
    (-1, False, 0.1),
    (0, True, 1.0),
]
BOTH_LAYOUTS = pytest.mark.parametrize("layout", LAYOUTS, ids=["nchw", "channels_last"])
HALVES = [(dtype, SETTINGS[i]) for dtype in DTYPES[:2] for i in (0, 3)]


def random_boxes(count: int, images: int, size: tuple[int, int], scale: float = 1.0) -> Tensor:
    """Boxes up to the whole map, some of them partly or wholly outside: float32 [count, 5]."""
    extent = torch.tensor([size[1], size[0]]) / scale
    corner = (torch.rand(count, 2) * 1.6 - 0.5) * extent
    image = torch.arange(count)[:, None] % images
    return torch.cat([image, corner, corner + torch.rand(count, 2) ** 2 * extent], 1)


def check_forward(
    shape: tuple[int, int, int, int],
    boxes: Tensor,
    bins: tuple[int, int],
    settings: tuple[int, bool, float] = (2, True, 1.0),
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> None:
    ratio, aligned, scale = settings
    image = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    found = on_triton(ops.roi_align, image, boxes, bins, scale, ratio, aligned)
    expected = roi_align(image.double(), boxes, scale, *bins, ratio, aligned)
    assert_close(found, expected, 16)
    assert found.is_contiguous(memory_format=layout)


def check_backward(
    shape: tuple[int, int, int, int],
    boxes: Tensor,
    bins: tuple[int, int],
    settings: tuple[int, bool, float] = (2, True, 1.0),
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> None:
    ratio, aligned, scale = settings
    grad = torch.randn(len(boxes), shape[1], *bins).to(dtype).contiguous(memory_format=layout)
    args = (boxes, scale, *bins, *shape, ratio, aligned)
    found = on_triton(torch.ops.cvperf.roi_align_backward, grad, *args)
    assert_close(found, roi_align_backward(grad.double(), *args), 64)
    assert found.is_contiguous(memory_format=layout)


@BOTH_LAYOUTS
@pytest.mark.parametrize(
    ("dtype", "settings"), [*((torch.float32, one) for one in SETTINGS), *HALVES], ids=str
)
def test_forward(dtype: torch.dtype, settings: Any, layout: torch.memory_format) -> None:
    boxes = random_boxes(5, 2, (25, 19), settings[2])
    check_forward((2, 37, 25, 19), boxes, (3, 5), settings, dtype, layout)


@BOTH_LAYOUTS
@pytest.mark.parametrize(
    ("dtype", "settings"),
    list(zip((*DTYPES, torch.float32, torch.float16), SETTINGS, strict=True)),
    ids=str,
)
def test_backward(dtype: torch.dtype, settings: Any, layout: torch.memory_format) -> None:
    boxes = random_boxes(5, 2, (18, 13), settings[2])
    check_backward((2, 37, 18, 13), boxes, (3, 5), settings, dtype, layout)


def test_many_boxes_on_a_small_map_are_pooled_from_a_turned_one() -> None:
    """NCHW, where the tests above read planes."""
    boxes = random_boxes(9, 2, (11, 13))
    for ratio in (2, -1):
        shape, layout = (2, 33, 11, 13), torch.contiguous_format
        check_forward(shape, boxes, (4, 3), (ratio, True, 1.0), torch.float16, layout)


@pytest.mark.parametrize("ratio", [2, -1])
def test_a_box_wider_than_a_block_of_pixels(ratio: int) -> None:
    boxes = torch.tensor([[0, 1.3, 0.2, 70.9, 2.7], [0, 30.0, -1.0, 34.0, 3.0]])
    check_forward((1, 8, 3, 75), boxes, (2, 4), (ratio, False, 1.0))
    check_backward((1, 8, 3, 75), boxes, (2, 4), (ratio, False, 1.0))


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [True, False])
def test_boxes_of_any_coordinates(ratio: int, aligned: bool) -> None:
    inf, nan = float("inf"), float("nan")
    values = [-0.0, 3.5, -1e5, 1e9, 1e30, -1e30, inf, -inf, nan]
    rows = [[0.0, a, 1.0, b, 9.0] for a in values for b in (2.0, 1e30, nan)]
    rows += [[0.0, 7.0, 8.0, 2.0, 1.0], [0.0, 4.0, 4.0, 4.0, 4.0]]  # backwards; a point
    boxes = torch.tensor(rows)
    image = torch.rand(1, 8, 12, 8).contiguous(memory_format=torch.channels_last)
    found = on_triton(ops.roi_align, image, boxes, 2, 1.0, ratio, aligned)
    # The CPU's kernel, since the reference makes every sample, also of a box of 1e30 pixels.
    assert_close(found, ops.roi_align(image, boxes, 2, 1.0, ratio, aligned).double(), 16)
    grad = torch.rand(len(boxes), 8, 2, 2)
    args = (boxes, 1.0, 2, 2, 1, 8, 12, 8, ratio, aligned)
    found = on_triton(torch.ops.cvperf.roi_align_backward, grad, *args)
    assert_close(found, torch.ops.cvperf.roi_align_backward(grad, *args).double(), 64)


@pytest.mark.parametrize("ratio", [2, -1])
def test_a_box_of_no_image_is_zeros_and_adds_nothing(ratio: int) -> None:
    image = torch.randn(2, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    indices = torch.tensor([0.0, -1.0, 2.0, 0.5, float("nan"), 1e20, 1.0])
    boxes = torch.cat([indices[:, None], torch.tensor([1.0, 1.0, 7.0, 8.0]).expand(7, 4)], 1)
    good = torch.tensor([0, 6])
    found = on_triton(ops.roi_align, image, boxes, 2, 1.0, ratio)
    expected = torch.zeros(7, 8, 2, 2, dtype=torch.float64)
    expected[good] = roi_align(image.double(), boxes[good], 1.0, 2, 2, ratio, False)
    assert_close(found, expected, 16)
    grad, sizes = torch.randn(7, 8, 2, 2), (1.0, 2, 2, 2, 8, 9, 9, ratio, False)
    found = on_triton(torch.ops.cvperf.roi_align_backward, grad, boxes, *sizes)
    expected = roi_align_backward(grad[good].double(), boxes[good], *sizes)
    assert_close(found, expected, 64)


def test_a_sample_outside_the_map_reads_nothing() -> None:
    image = torch.full((1, 4, 6, 6), float("inf")).contiguous(memory_format=torch.channels_last)
    for ratio in (2, -1):
        found = on_triton(
            ops.roi_align, image, torch.tensor([[0.0, 20, 20, 30, 30]]), 2, 1.0, ratio
        )
        assert not found.any(), f"{ratio} samples: {found.unique()}"


@BOTH_LAYOUTS
@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_pyramid(dtype: torch.dtype, ratio: int, layout: torch.memory_format) -> None:
    sides = (24, 12, 6)
    maps = [torch.randn(2, 19, side, side + 1).to(dtype) for side in sides]
    features = [each.contiguous(memory_format=layout) for each in maps]
    boxes = random_boxes(6, 2, (96, 96))
    boxes[:, 3:] = boxes[:, 1:3] + torch.tensor([20.0, 60, 150, 30, 90, 70])[:, None]
    boxes[5, 3] = boxes[5, 1] - 1  # of negative area: on no level
    scales = [0.25, 0.125, 0.0625]
    assert set(pyramid_levels(boxes, scales, 64, 3).tolist()) == {-1, 0, 1, 2}
    settings = {"canonical_scale": 64, "canonical_level": 3}
    found = on_triton(ops.multiscale_roi_align, features, boxes, (3, 2), scales, ratio, **settings)
    wide = [each.double() for each in features]
    args = (scales, 3, 2, ratio, False, 64.0, 3)
    assert_close(found, multiscale_roi_align(wide, boxes, *args), 16)
    assert found.is_contiguous(memory_format=layout)
    grad = torch.randn(6, 19, 3, 2).to(dtype).contiguous(memory_format=layout)
    sizes = (2, 19, list(sides), [side + 1 for side in sides], ratio, False, 64.0, 3)
    args = (boxes, scales, 3, 2, *sizes)
    grads = on_triton(torch.ops.cvperf.multiscale_roi_align_backward, grad, *args)
    expected = multiscale_roi_align_backward(grad.double(), *args)
    for level, (mine, theirs) in enumerate(zip(grads, expected, strict=True)):
        assert_close(mine, theirs, 64, f"level {level}")


def test_the_gradient_has_the_same_bits_in_tiles_of_fewer_channels() -> None:
    from cvperf.backends.gpu.configs import Config, forcing

    boxes, grad = random_boxes(7, 1, (12, 11)), torch.randn(7, 70, 3, 2)
    args = (grad, boxes, 1.0, 3, 2, 1, 70, 12, 11, 2, True)
    answers = [on_triton(torch.ops.cvperf.roi_align_backward, *args)]
    with forcing(Config.of(2, 1, BLOCK_CHANNELS=32)):
        answers.append(on_triton(torch.ops.cvperf.roi_align_backward, *args))
    assert torch.equal(*answers)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8)], ids=str)
def test_empty_inputs(shape: tuple[int, int, int, int]) -> None:
    boxes = torch.zeros(0 if shape == (1, 4, 8, 8) else 1, 5)
    for ratio in (2, -1):
        found = on_triton(ops.roi_align, torch.randn(shape), boxes, 3, 1.0, ratio)
        assert found.shape == (len(boxes), shape[1], 3, 3)
        assert not found.any()
        args = (boxes, 1.0, 3, 3, *shape, ratio, False)
        grad = torch.ones(len(boxes), shape[1], 3, 3)
        found = on_triton(torch.ops.cvperf.roi_align_backward, grad, *args)
        assert torch.equal(found, torch.zeros(shape))


def test_float64_is_refused_with_the_way_out() -> None:
    image, boxes = to_device(torch.zeros(1, 4, 8, 8).double()), to_device(torch.zeros(1, 5))
    with as_on(90), pytest.raises(UnsupportedError, match=r"float32; convert the inputs"):
        ops.roi_align(image, boxes, 2)


def _case(check: Any, ratio: int) -> Any:
    def case() -> None:
        torch.manual_seed(0)
        check((1, 5, 9, 13), random_boxes(9, 1, (9, 13)), (2, 3), (ratio, True, 1.0))

    case.__name__ = f"{check.__name__}_{ratio}"
    return case


samples, weights = _case(check_forward, 2), _case(check_forward, -1)
gradient = _case(check_backward, 2)


def no_image() -> None:
    test_a_box_of_no_image_is_zeros_and_adds_nothing(2)


FAULTS = [
    Fault("columns are found by the number of rows", "roi_align",
          "(k * PW + row % PW) * RATIO", "(k * PH + row % PW) * RATIO", samples),
    Fault("the last rows are not masked", "roi_rows", "row < total,", "row <= total,", samples),
    Fault("a box of no image is read", "roi_sampling",
          "inside & valid & (level >= 0)", "inside & (level >= 0)", no_image),
    Fault("a sample beyond the last pixel's centre is lost", "roi_sampling",
          "tl.where(low >= size - 1, 0.0, position - low)", "position - low", weights),
    Fault("the last pixel of a bin is left out", "roi_sampling",
          "tl.minimum(low + 2, size)", "tl.minimum(low + 1, size)", weights),
    Fault("a box that ends in a tile is not on its list", "roi_tiles",
          "> column * TILE", "> (column + 1) * TILE", gradient),
    Fault("lists overlap", "roi_tiles", "inner.to(tl.int64) * here", "inner.to(tl.int64)",
          gradient),
    Fault("the last column of bins is left out", "roi_align_backward",
          "range(first_j, last_j)", "range(first_j, last_j - 1)", gradient),
]  # fmt: skip
