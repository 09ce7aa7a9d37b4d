"""RoI pooling in Triton: values and positions exactly the reference's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf.backends.reference.roi_pool import roi_pool, roi_pool_backward
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import assert_close, on_triton
from tests.kernels.triton.test_roi_align import BOTH_LAYOUTS, DTYPES, random_boxes


def check(
    image: Tensor, boxes: Tensor, bins: tuple[int, int], scale: float, gradient: bool = True
) -> None:
    output, argmax = on_triton(torch.ops.cvperf.roi_pool, image, boxes, scale, *bins)
    expected, places = roi_pool(image, boxes, scale, *bins)
    assert torch.equal(output, expected), f"{(output != expected).sum()} values differ"
    assert torch.equal(argmax, places), f"{(argmax != places).sum()} positions differ"
    assert output.stride() == torch.empty_like(output).stride()
    if gradient:
        grad = torch.empty_like(output).copy_(torch.randn(output.shape))
        args = (boxes, argmax, scale, *bins, *image.shape)
        found = on_triton(torch.ops.cvperf.roi_pool_backward, grad, *args)
        assert_close(found, roi_pool_backward(grad.double(), *args), 16)


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_values_positions_and_gradient(
    scale: float, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    image = torch.randint(-9, 9, (2, 37, 9, 13)).to(dtype).contiguous(memory_format=layout)
    check(image, random_boxes(5, 2, (9, 13), scale), (3, 2), scale)


def test_many_boxes_on_a_small_map_are_pooled_from_a_turned_one() -> None:
    image = torch.randint(-99, 99, (2, 9, 7, 9)).float()
    check(image, random_boxes(9, 2, (7, 9)), (3, 4), 1.0, gradient=False)


def test_pixels_that_are_no_numbers() -> None:
    values = torch.tensor([float("nan"), -float("inf"), float("inf"), -1.0, 2.0])
    image = values[torch.randint(0, 5, (1, 19, 12, 12))]
    image[:, :4] = float("nan")
    image[:, 4:6] = -float("inf")
    image = image.contiguous(memory_format=torch.channels_last)
    check(image, random_boxes(6, 1, (12, 12)), (4, 4), 1.0, gradient=False)


def test_boxes_of_any_coordinates() -> None:
    inf, nan = float("inf"), float("nan")
    values = [0.5, -5.0, 2.5, 3e9, 1e30, -1e30, inf, -inf, nan]
    rows = [[0.0, a, 1.5, b, 6.0] for a in values for b in (3.5, 1e30, nan)]
    image = torch.rand(1, 5, 8, 6).contiguous(memory_format=torch.channels_last)
    check(image, torch.tensor(rows), (3, 3), 1.0)


def test_a_box_of_no_image_is_zeros() -> None:
    image = torch.rand(2, 5, 8, 6).contiguous(memory_format=torch.channels_last)
    boxes = torch.tensor([[index, 0.0, 0.0, 5.0, 5.0] for index in (-1.0, 0.5, 2.0, float("nan"))])
    output, argmax = on_triton(torch.ops.cvperf.roi_pool, image, boxes, 1.0, 2, 2)
    assert not output.any()
    assert (argmax == -1).all()


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8)], ids=str)
def test_empty_inputs(shape: tuple[int, int, int, int]) -> None:
    boxes = torch.zeros(0 if shape == (1, 4, 8, 8) else 1, 5)
    output, argmax = on_triton(torch.ops.cvperf.roi_pool, torch.rand(shape), boxes, 1.0, 3, 3)
    assert output.shape == argmax.shape == (len(boxes), shape[1], 3, 3)
    assert not output.any()
    args = (boxes, argmax, 1.0, 3, 3, *shape)
    found = on_triton(torch.ops.cvperf.roi_pool_backward, output, *args)
    assert torch.equal(found, torch.zeros(shape))


def ties() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 3, (1, 5, 7, 9)).float().contiguous(memory_format=torch.channels_last)
    halves = torch.tensor([[0, 0.5, 0.5, 1.5, 2.5], [0, 2.5, -0.5, 3.5, 0.5]])
    check(image, torch.cat([random_boxes(4, 1, (7, 9)), halves]), (2, 2), 1.0)


def turned() -> None:
    torch.manual_seed(0)
    test_many_boxes_on_a_small_map_are_pooled_from_a_turned_one()


FAULTS = [
    Fault("the last of the largest pixels wins", "roi_pool", "value > best", "value >= best", ties),
    Fault("halves round to even", "roi_pool", "x, x) + 0.5)", "x, x) + 0.49)", ties),
    Fault("the gradient goes to the whole bin", "roi_pool",
          "tl.where(where == place, ", "tl.where(where >= 0, ", ties),
    Fault("the tail of the positions is turned unmasked", "turn",
          "& (position < positions)[None, :]", "& (position >= 0)[None, :]", turned),
]  # fmt: skip
