"""RoI pooling in CUDA C++: values and positions exactly the reference's, under every schedule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cvperf.backends.reference.roi_pool import roi_pool, roi_pool_backward
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import assert_close, on_cuda
from tests.kernels.cuda.test_roi_align import (
    BOTH_LAYOUTS,
    CHANNELS,
    CHANNELS_LAST,
    DTYPES,
    random_boxes,
    under_every_schedule,
)

forward, backward = torch.ops.cvperf.roi_pool, torch.ops.cvperf.roi_pool_backward


def check(
    image: Tensor, boxes: Tensor, bins: tuple[int, int], scale: float, gradient: bool = True
) -> None:
    output, argmax = under_every_schedule(forward, image, boxes, scale, *bins)
    expected, places = roi_pool(image, boxes, scale, *bins)
    assert torch.equal(output, expected), f"{(output != expected).sum()} values differ"
    assert torch.equal(argmax, places), f"{(argmax != places).sum()} positions differ"
    assert output.stride() == argmax.stride() == torch.empty_like(output).stride()
    assert output.is_contiguous(
        memory_format=CHANNELS_LAST
        if image.is_contiguous(memory_format=CHANNELS_LAST)
        else torch.contiguous_format
    )
    if gradient:
        grad = torch.empty_like(output).copy_(torch.randn(output.shape))
        args = (boxes, argmax, scale, *bins, *image.shape)
        found = under_every_schedule(backward, grad, *args)
        assert_close(found, roi_pool_backward(grad.double(), *args), 16)


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_values_positions_and_gradient(
    scale: float, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    image = torch.randint(-9, 9, (2, 24, 9, 13)).to(dtype).contiguous(memory_format=layout)
    check(image, random_boxes(5, 2, (9, 13), scale), (3, 2), scale)


@pytest.mark.parametrize("channels", [*CHANNELS[1:], 136])
def test_any_number_of_channels(channels: int) -> None:
    image = torch.randint(-9, 9, (1, channels, 7, 9)).half().contiguous(memory_format=CHANNELS_LAST)
    check(image, random_boxes(4, 1, (7, 9)), (2, 2), 1.0)


@pytest.mark.parametrize("size", [(3, 150), (1, 64), (65, 2)], ids=str)
def test_runs_of_pixels_that_are_parts_of_rows_or_many(size: tuple[int, int]) -> None:
    image = torch.randint(-99, 99, (2, 8, *size)).float().contiguous(memory_format=CHANNELS_LAST)
    check(image, random_boxes(12, 2, size), (3, 4), 1.0)


def test_a_run_adds_more_boxes_than_its_block_has_threads() -> None:
    image = torch.randint(-99, 99, (2, 4, 8, 8)).float()
    check(image, random_boxes(150, 2, (8, 8)), (2, 1), 1.0)


def test_pixels_that_are_no_numbers() -> None:
    values = torch.tensor([float("nan"), -float("inf"), float("inf"), -1.0, 2.0])
    image = values[torch.randint(0, 5, (1, 20, 12, 12))]
    image[:, :4] = float("nan")
    image[:, 4:6] = -float("inf")
    image = image.contiguous(memory_format=CHANNELS_LAST)
    check(image, random_boxes(6, 1, (12, 12)), (4, 4), 1.0, gradient=False)


def test_boxes_of_any_coordinates() -> None:
    inf, nan = float("inf"), float("nan")
    values = [0.5, -5.0, 2.5, 3e9, 1e30, -1e30, inf, -inf, nan]
    rows = [[0.0, a, 1.5, b, 6.0] for a in values for b in (3.5, 1e30, nan)]
    image = torch.rand(1, 5, 8, 6).contiguous(memory_format=CHANNELS_LAST)
    check(image, torch.tensor(rows), (3, 3), 1.0)


def test_a_box_of_no_image_is_zeros_and_adds_nothing() -> None:
    image = torch.rand(2, 5, 8, 6).contiguous(memory_format=CHANNELS_LAST)
    boxes = torch.tensor([[index, 0.0, 0.0, 5.0, 5.0] for index in (-1.0, 0.5, 2.0, float("nan"))])
    output, argmax = under_every_schedule(forward, image, boxes, 1.0, 2, 2)
    assert not output.any()
    assert (argmax == -1).all()
    args = (boxes, torch.zeros_like(argmax), 1.0, 2, 2, *image.shape)
    assert not under_every_schedule(backward, torch.ones_like(output), *args).any()


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8)], ids=str)
def test_empty_inputs(shape: tuple[int, int, int, int]) -> None:
    boxes = torch.zeros(0 if shape == (1, 4, 8, 8) else 1, 5)
    output, argmax = on_cuda(forward, torch.rand(shape), boxes, 1.0, 3, 3)
    assert output.shape == argmax.shape == (len(boxes), shape[1], 3, 3)
    assert not output.any()
    found = on_cuda(backward, output, boxes, argmax, 1.0, 3, 3, *shape)
    assert torch.equal(found, torch.zeros(shape))


def ties() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 3, (1, 5, 7, 9)).float().contiguous(memory_format=CHANNELS_LAST)
    halves = torch.tensor([[0, 0.5, 0.5, 1.5, 2.5], [0, 2.5, -0.5, 3.5, 0.5]])
    check(image, torch.cat([random_boxes(70, 1, (7, 9)), halves]), (2, 2), 1.0)


def planes() -> None:
    torch.manual_seed(0)
    image = torch.randint(-99, 99, (1, 136, 7, 11)).float()
    check(image, random_boxes(4, 1, (7, 11)), (2, 2), 1.0)


FAULTS = [
    Fault("the last of the largest pixels wins", "roi_pool.cu", "values[v] > best[v]",
          "values[v] >= best[v]", ties),
    Fault("halves round down", "roi_pool.cu", "2147483647.0) + 0.5)", "2147483647.0) + 0.49)",
          ties),
    Fault("bins are read before they are made", "roi_pool.cu",
          "pool_range(s, boxes, k, p);\n  }\n  __syncthreads();",
          "pool_range(s, boxes, k, p);\n  }", ties),
    Fault("positions beyond the run are taken for its first", "roi_pool.cu",
          "if (place < static_cast<unsigned>(count)) sums[place]", "sums[place % count]", planes),
    Fault("hits are read before they are written", "roi_pool.cu",
          "    __syncthreads();\n    if (channel >= channels) continue;",
          "    if (channel >= channels) continue;", ties),
    Fault("sums are stored before all are made", "roi_pool.cu",
          "  __syncthreads();\n  for (int each", "  for (int each", planes),
    Fault("a box that ends in a run is not on its list", "roi_pool.cu",
          "edge.y <= low", "edge.y <= low + 1", ties),
    Fault("tiles are turned before they are there", "turn.cu", "  __syncthreads();\n", "", planes),
]  # fmt: skip
