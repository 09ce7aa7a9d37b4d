"""Pasting of masks in CUDA C++: every dtype, boxes in and out of the image, soft and hard."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, assert_close, on_cuda

HEIGHT, WIDTH = 37, 150
BOXES = torch.tensor(
    [
        [10.2, 3.7, 140.9, 30.1],
        [-20.5, -9.0, 31.0, 18.5],
        [120.0, 20.0, 190.0, 60.0],
        [4.0, 5.0, 4.4, 5.2],
        [3.5, 30.0, 1.0, 2.0],
    ]
)
NOWHERE = torch.tensor([[200.0, 3, 220, 9], [3, -30, 9, -20], [math.nan, 0, 9, 9], [0, 0, 3e9, 9]])


def check(
    masks: Tensor, boxes: Tensor, threshold: float | None, padding: int, width: int = WIDTH
) -> None:
    args = (masks, boxes, (HEIGHT, width), threshold, padding)
    found = on_cuda(ops.paste_masks, *args)
    for schedule in SCHEDULES[1:]:
        assert torch.equal(on_cuda(ops.paste_masks, *args, schedule=schedule), found)
    arguments = (masks.double(), boxes, HEIGHT, width)
    exact = reference.paste_masks(*arguments, None, padding)
    if threshold is None:
        # Positions in float32 are off by a millionth of a pixel, as torch's are.
        assert_close(found, exact, terms=4096)
    else:
        sure = (exact - threshold).abs() > 1e-5
        assert torch.equal(found[sure], (exact > threshold)[sure])
        assert found.dtype == torch.bool


def soft() -> None:
    check(torch.rand(5, 14, 14), BOXES, None, 1)


def hard() -> None:
    check(torch.rand(5, 14, 14), BOXES, 0.5, 1)


def unpadded() -> None:
    check(torch.ones(5, 14, 14), BOXES, None, 0)


def cut_boxes() -> None:
    """Corners that one rounding more or less moves to another pixel."""
    torch.manual_seed(5)
    corner = torch.rand(40, 2) * 16 + 1e-3
    boxes = torch.cat([corner, corner + torch.rand(40, 2) * 8], 1)
    grow = 28 / 14
    half, middle = (boxes[:, 2] - boxes[:, 0]) * 0.5 * grow, (boxes[:, 2] + boxes[:, 0]) * 0.5
    boxes[:, 0] += (middle - half).round() - (middle - half)  # the left side on a whole pixel
    check(torch.ones(40, 14, 14), boxes, 0.5, 7, width=32)


@pytest.mark.parametrize("width", [1, 7, 16, 33, 1300])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_any_width(threshold: float | None, width: int) -> None:
    """An image begins anywhere in 16 bytes, and 16 bytes may hold several of its rows."""
    check(torch.rand(5, 14, 14), BOXES, threshold, 1, width)


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("case", [None, 0.5])
def test_agrees_with_the_reference(case: float | None, padding: int) -> None:
    check(torch.rand(5, 14, 14), BOXES, case, padding)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("boxes", [torch.float16, torch.float32, torch.float64])
def test_every_dtype(dtype: torch.dtype, boxes: torch.dtype) -> None:
    check(torch.rand(5, 14, 14).to(dtype), BOXES.to(boxes), None, 1)


def test_boxes_on_the_edge_of_a_pixel() -> None:
    cut_boxes()


def test_boxes_that_are_nowhere_leave_the_image_empty() -> None:
    assert not on_cuda(ops.paste_masks, torch.ones(4, 5, 5), NOWHERE, (20, 30)).any()


def test_empty_input() -> None:
    assert on_cuda(ops.paste_masks, torch.rand(0, 5, 5), torch.rand(0, 4), (9, 8)).shape == (
        0,
        9,
        8,
    )
    assert on_cuda(ops.paste_masks, torch.rand(2, 5, 5), torch.rand(2, 4), (0, 8)).numel() == 0


FAULTS = [
    Fault("the mask's end is not repeated", "paste_masks.cu", "min(row, last) - padding",
          "row - padding", unpadded),
    Fault("rows and columns of the mask are swapped", "paste_masks.cu", "mask[y * side + x]",
          "mask[x * side + y]", soft),
    Fault("a box is one pixel short", "paste_masks.cu", "end - begin + 1 : 0", "end - begin : 0",
          soft),
    Fault("the next mask is read", "paste_masks.cu", "* side * side;", "* side * (side - 1);",
          hard),
    Fault("half a pixel is forgotten", "paste_masks.cu", "(pixel) + 0.5f)", "(pixel))", soft),
    Fault("a row's last pixels are taken for untouched", "paste_masks.cu",
          "x + (end - first) > columns.first", "x > columns.first", soft),
    Fault("16 bytes are not cut at the image's begin", "paste_masks.cu",
          "start < 0 ? 0 : static_cast<int>(start)", "static_cast<int>(start)", hard),
]  # fmt: skip
