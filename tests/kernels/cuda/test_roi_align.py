"""RoI Align in CUDA C++: both layouts, every dtype, any boxes and schedule, one map or many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends.channels import dense_format
from cvperf.backends.cuda.roi_align_backward import lanes_of
from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.reference.roi_align import (
    multiscale_roi_align,
    multiscale_roi_align_backward,
    roi_align,
    roi_align_backward,
)
from cvperf.errors import ArgumentError, UnsupportedError
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, as_on, assert_close, on_cuda, to_device

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
PLANES, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
BOTH_LAYOUTS = pytest.mark.parametrize("layout", [PLANES, CHANNELS_LAST], ids=["nchw", "nhwc"])
SETTINGS = [  # samples a bin, aligned, scale
    (2, True, 0.25),
    (1, False, 1.0),
    (3, True, 0.5),
    (-1, False, 0.1),
    (0, True, 1.0),
]
CHANNELS = (1, 3, 7, 8, 20, 72)
backward = torch.ops.cvperf.roi_align_backward
multiscale_backward = torch.ops.cvperf.multiscale_roi_align_backward


def random_boxes(count: int, images: int, size: tuple[int, int], scale: float = 1.0) -> Tensor:
    """Boxes up to the whole map, some of them partly or wholly outside: float32 [count, 5]."""
    extent = torch.tensor([size[1], size[0]]) / scale
    corner = (torch.rand(count, 2) * 1.6 - 0.5) * extent
    image = torch.arange(count)[:, None] % images
    return torch.cat([image, corner, corner + torch.rand(count, 2) ** 2 * extent], 1)


def under_every_schedule(op: Any, *args: Any, **keywords: Any) -> Any:
    """The answer, whose bits do not depend on the schedule."""
    answers = [on_cuda(op, *args, schedule=schedule, **keywords) for schedule in SCHEDULES]
    for schedule, answer in zip(SCHEDULES, answers, strict=True):
        parts = ([one] if isinstance(one, Tensor) else one for one in (answer, answers[0]))
        same = all(_same_bits(*pair) for pair in zip(*parts, strict=True))
        assert same, f"{schedule} answers something else"
    return answers[0]


def _same_bits(a: Tensor, b: Tensor) -> bool:
    size = torch.int16 if a.element_size() == 2 else torch.int32
    return torch.equal(a.view(size), b.view(size))


def check_forward(
    shape: tuple[int, int, int, int],
    boxes: Tensor,
    bins: tuple[int, int],
    settings: tuple[int, bool, float] = (2, True, 1.0),
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = CHANNELS_LAST,
) -> None:
    ratio, aligned, scale = settings
    image = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    found = under_every_schedule(ops.roi_align, image, boxes, bins, scale, ratio, aligned)
    assert_close(found, roi_align(image.double(), boxes, scale, *bins, ratio, aligned), 16)
    assert found.is_contiguous(memory_format=layout)


def check_backward(
    shape: tuple[int, int, int, int],
    boxes: Tensor,
    bins: tuple[int, int],
    settings: tuple[int, bool, float] = (2, True, 1.0),
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = CHANNELS_LAST,
) -> None:
    """Held to float64 autograd through the reference's forward."""
    ratio, aligned, scale = settings
    grad = torch.randn(len(boxes), shape[1], *bins).to(dtype).contiguous(memory_format=layout)
    found = under_every_schedule(backward, grad, boxes, scale, *bins, *shape, ratio, aligned)
    image = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    roi_align(image, boxes, scale, *bins, ratio, aligned).backward(grad.double())
    assert image.grad is not None
    assert_close(found, image.grad, 64)
    assert found.is_contiguous(memory_format=dense_format(grad))


@BOTH_LAYOUTS
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward(dtype: torch.dtype, settings: Any, layout: torch.memory_format) -> None:
    boxes = random_boxes(5, 2, (25, 19), settings[2])
    check_forward((2, 24, 25, 19), boxes, (3, 5), settings, dtype, layout)


@BOTH_LAYOUTS
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward(dtype: torch.dtype, settings: Any, layout: torch.memory_format) -> None:
    boxes = random_boxes(5, 2, (18, 13), settings[2])
    check_backward((2, 24, 18, 13), boxes, (3, 5), settings, dtype, layout)


@BOTH_LAYOUTS
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_any_number_of_channels(
    dtype: torch.dtype, channels: int, layout: torch.memory_format
) -> None:
    boxes = random_boxes(4, 1, (10, 17))
    check_forward((1, channels, 10, 17), boxes, (2, 2), (2, False, 1.0), dtype, layout)
    check_backward((1, channels, 10, 17), boxes, (2, 2), (2, False, 1.0), dtype, layout)


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("bins", [(1, 1), (7, 7), (14, 14)], ids=str)
def test_any_number_of_bins(bins: tuple[int, int], ratio: int) -> None:
    boxes = random_boxes(6, 1, (20, 30))
    check_forward((1, 8, 20, 30), boxes, bins, (ratio, True, 1.0), torch.float16)
    check_backward((1, 8, 20, 30), boxes, bins, (ratio, True, 1.0), torch.float16)


@pytest.mark.parametrize("width", [8, 10, 12, 13, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_gradients_of_planes_of_any_width(dtype: torch.dtype, width: int) -> None:
    """Rows are stored in accesses as wide as they are aligned."""
    boxes = random_boxes(4, 2, (9, width))
    check_backward((2, 8, 9, width), boxes, (2, 3), dtype=dtype, layout=PLANES)


def test_many_boxes_on_a_small_map_are_pooled_from_a_turned_one() -> None:
    """NCHW, where few boxes on a large map are pooled from planes."""
    boxes = random_boxes(9, 2, (11, 13))
    for ratio in (2, -1):
        shape, settings = (2, 72, 11, 13), (ratio, True, 1.0)
        check_forward(shape, boxes, (7, 5), settings, torch.float16, PLANES)
        check_forward(shape, boxes, (7, 5), settings, torch.float32, PLANES)


def test_a_tile_adds_more_boxes_than_its_block_has_threads() -> None:
    """32 threads for 4 vectors of channels; 70 boxes are three rounds."""
    assert 8 * lanes_of(4) == 32
    boxes = random_boxes(70, 2, (12, 11))
    check_backward((2, 16, 12, 11), boxes, (2, 2))


def test_channels_in_several_slices() -> None:
    """144 vectors of float32 are 5 slices of 32 lanes for the gradient, 18 groups for the bins."""
    assert [lanes_of(vectors) for vectors in (144, 64, 31, 40, 16, 3)] == [32, 32, 32, 8, 16, 4]
    boxes = random_boxes(2, 1, (9, 9))
    check_forward((1, 576, 9, 9), boxes, (3, 3))
    check_backward((1, 576, 9, 9), boxes, (3, 3))


@pytest.mark.parametrize("ratio", [2, -1])
def test_maps_that_do_not_start_at_a_multiple_of_16_bytes(ratio: int) -> None:
    image = torch.randn(1, 9, 8, 8 * 7 + 1).flatten()[1 : 8 * 8 * 7 + 1].reshape(1, 8, 7, 8)
    image = image.permute(0, 3, 1, 2)
    assert image.is_contiguous(memory_format=CHANNELS_LAST)
    assert image.data_ptr() % 16 == 4
    boxes = random_boxes(3, 1, (8, 7))
    found = under_every_schedule(ops.roi_align, image, boxes, 2, 1.0, ratio)
    assert_close(found, roi_align(image.double(), boxes, 1.0, 2, 2, ratio, False), 16)


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [True, False])
def test_boxes_of_any_coordinates(ratio: int, aligned: bool) -> None:
    inf, nan = float("inf"), float("nan")
    values = [-0.0, 3.5, -1e5, 1e9, 1e30, -1e30, inf, -inf, nan]
    rows = [[0.0, a, 1.0, b, 9.0] for a in values for b in (2.0, 1e30, nan)]
    rows += [[0.0, 7.0, 8.0, 2.0, 1.0], [0.0, 4.0, 4.0, 4.0, 4.0]]  # backwards; a point
    boxes = torch.tensor(rows)
    image = torch.rand(1, 8, 12, 8).contiguous(memory_format=CHANNELS_LAST)
    found = under_every_schedule(ops.roi_align, image, boxes, 2, 1.0, ratio, aligned)
    # The CPU's kernel, since the reference makes every sample, also of a box of 1e30 pixels.
    assert_close(found, ops.roi_align(image, boxes, 2, 1.0, ratio, aligned).double(), 16)
    grad = torch.rand(len(boxes), 8, 2, 2)
    args = (boxes, 1.0, 2, 2, 1, 8, 12, 8, ratio, aligned)
    found = under_every_schedule(backward, grad, *args)
    assert_close(found, backward(grad, *args).double(), 64)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 2, 5, -1])
def test_samples_have_the_positions_of_the_cpu(ratio: int, aligned: bool) -> None:
    """Bit for bit: a map of one row, a channel a column, answers with the weights of columns."""
    image = torch.eye(64).view(1, 64, 1, 64)
    boxes = random_boxes(40, 1, (1, 64), 0.37)
    boxes[:, 2], boxes[:, 4] = -0.2, 0.3  # its samples give the row a weight of one
    boxes[:9, 3] = boxes[:9, 1] + torch.rand(9) * 5
    for layout in (PLANES, CHANNELS_LAST):
        args = (image.contiguous(memory_format=layout), boxes, (1, 5), 0.37, ratio, aligned)
        found = on_cuda(ops.roi_align, *args)
        assert torch.equal(found, ops.roi_align(*args))
        assert found.any()


@pytest.mark.parametrize("ratio", [2, -1])
def test_a_box_of_no_image_is_zeros_and_adds_nothing(ratio: int) -> None:
    image = torch.randn(2, 8, 9, 9).contiguous(memory_format=CHANNELS_LAST)
    indices = torch.tensor([0.0, -1.0, 2.0, 0.5, float("nan"), 1e20, 1.0])
    boxes = torch.cat([indices[:, None], torch.tensor([1.0, 1.0, 7.0, 8.0]).expand(7, 4)], 1)
    good = torch.tensor([0, 6])
    found = under_every_schedule(ops.roi_align, image, boxes, 2, 1.0, ratio)
    expected = torch.zeros(7, 8, 2, 2, dtype=torch.float64)
    expected[good] = roi_align(image.double(), boxes[good], 1.0, 2, 2, ratio, False)
    assert_close(found, expected, 16)
    grad, sizes = torch.randn(7, 8, 2, 2), (1.0, 2, 2, 2, 8, 9, 9, ratio, False)
    found = under_every_schedule(backward, grad, boxes, *sizes)
    assert_close(found, roi_align_backward(grad[good].double(), boxes[good], *sizes), 64)


def test_a_sample_outside_the_map_reads_nothing() -> None:
    image = torch.full((1, 4, 6, 6), float("inf"))
    boxes = torch.tensor([[0.0, 20, 20, 30, 30]])
    for layout in (PLANES, CHANNELS_LAST):
        for ratio in (2, -1):
            maps = image.contiguous(memory_format=layout)
            found = under_every_schedule(ops.roi_align, maps, boxes, 2, 1.0, ratio)
            assert not found.any(), f"{ratio} samples: {found.unique()}"


def test_an_infinite_value_reaches_what_the_cpu_lets_it_reach() -> None:
    """Of a map its bins, of a gradient its pixels; zero times infinity is NaN for those alone."""
    image = torch.zeros(1, 8, 14, 15).contiguous(memory_format=CHANNELS_LAST)
    image[0, 3, 6, 7] = float("inf")
    boxes = torch.tensor([[0.0, 1.2, 0.7, 14.0, 13.1], [0.0, 5.0, 5.0, 9.0, 9.0]])
    args = (boxes, (5, 4), 1.0, 2, True)
    _assert_same_with_nans(
        under_every_schedule(ops.roi_align, image, *args), ops.roi_align(image, *args)
    )
    grad = torch.zeros(2, 8, 5, 4)
    grad[0, 3, 2, 1] = float("inf")
    args = (grad, boxes, 1.0, 5, 4, 1, 8, 14, 15, 2, True)
    _assert_same_with_nans(under_every_schedule(backward, *args), backward(*args))


def _assert_same_with_nans(found: Tensor, expected: Tensor) -> None:
    assert not expected.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, equal_nan=True)


def pyramid(dtype: torch.dtype, layout: torch.memory_format) -> tuple[list[Tensor], Tensor]:
    """Three levels, and boxes on all of them and on none."""
    maps = [torch.randn(2, 24, side, side + 1).to(dtype) for side in (24, 12, 6)]
    boxes = random_boxes(6, 2, (96, 96))
    boxes[:, 3:] = boxes[:, 1:3] + torch.tensor([20.0, 60, 150, 30, 90, 70])[:, None]
    boxes[5, 3] = boxes[5, 1] - 1  # of negative area
    assert set(pyramid_levels(boxes, SCALES, 64, 3).tolist()) == {-1, 0, 1, 2}
    return [each.contiguous(memory_format=layout) for each in maps], boxes


SCALES = [0.25, 0.125, 0.0625]


@BOTH_LAYOUTS
@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("box_dtype", [torch.float32, torch.float64], ids=str)
def test_a_pyramid(
    dtype: torch.dtype, ratio: int, layout: torch.memory_format, box_dtype: torch.dtype
) -> None:
    features, boxes = pyramid(dtype, layout)
    boxes = boxes.to(box_dtype)
    settings = {"canonical_scale": 64, "canonical_level": 3}
    args = (features, boxes, (3, 2), SCALES, ratio)
    found = under_every_schedule(ops.multiscale_roi_align, *args, **settings)
    wide = [each.double() for each in features]
    args = (SCALES, 3, 2, ratio, False, 64.0, 3)
    assert_close(found, multiscale_roi_align(wide, boxes, *args), 16)
    assert found.is_contiguous(memory_format=layout)
    grad = torch.randn(6, 24, 3, 2).to(dtype).contiguous(memory_format=layout)
    heights, widths = [24, 12, 6], [25, 13, 7]
    args = (boxes, SCALES, 3, 2, 2, 24, heights, widths, ratio, False, 64.0, 3)
    grads = under_every_schedule(multiscale_backward, grad, *args)
    expected = multiscale_roi_align_backward(grad.double(), *args)
    for level, (mine, theirs) in enumerate(zip(grads, expected, strict=True)):
        assert_close(mine, theirs, 64, f"level {level}")
        assert mine.is_contiguous(memory_format=layout)


def test_levels_are_those_of_the_op() -> None:
    """Each level's map is full of its number, and sides lie at and about their edges."""
    scales = [2.0**-level for level in range(2, 7)]
    sides = torch.tensor([112.0, 224, 448, 896, 30, 0, 5000])
    sides = torch.cat([sides, *(sides.nextafter(sides * 0 + to) for to in (0.0, 1e9))])
    sides = torch.cat([sides, torch.rand(200) * 1000])
    boxes = torch.stack([0 * sides, -sides / 2, -sides / 2, sides / 2, sides / 2], 1)
    boxes = torch.cat([boxes, torch.tensor([[0.0, 5, 5, 4, 9], [0.0, 5, 5, 4, float("nan")]])])
    maps = [torch.full((1, 1, 4, 4), 1.0 + level) for level in range(5)]
    found = on_cuda(ops.multiscale_roi_align, maps, boxes, 1, scales, 1)
    assert torch.equal(found.flatten() - 1, pyramid_levels(boxes, scales, 224, 4).float())


def test_more_levels_than_the_kernels_take_are_refused() -> None:
    scales = [2.0**-level for level in range(9)]
    maps = [torch.zeros(1, 4, 4, 4) for _ in scales]
    with pytest.raises(ArgumentError, match="9 levels: the CUDA kernels take at most 8"):
        on_cuda(ops.multiscale_roi_align, maps, torch.zeros(1, 5), 2, scales, 2)


def test_tables_that_no_block_can_hold_are_refused() -> None:
    image = torch.zeros(1, 1, 1, 40_000)
    with pytest.raises(ArgumentError, match=r"take 3\d+ bytes of shared memory"):
        on_cuda(ops.roi_align, image, torch.zeros(1, 5), 2)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8)], ids=str)
def test_empty_inputs(shape: tuple[int, int, int, int]) -> None:
    boxes = torch.zeros(0 if shape == (1, 4, 8, 8) else 1, 5)
    for ratio in (2, -1):
        found = on_cuda(ops.roi_align, torch.randn(shape), boxes, 3, 1.0, ratio)
        assert found.shape == (len(boxes), shape[1], 3, 3)
        assert not found.any()
        grad = torch.ones(len(boxes), shape[1], 3, 3)
        found = on_cuda(backward, grad, boxes, 1.0, 3, 3, *shape, ratio, False)
        assert torch.equal(found, torch.zeros(shape))


def test_a_level_without_pixels() -> None:
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 4, 0, 4), torch.randn(1, 4, 2, 2)]
    boxes = torch.tensor([[0.0, 0, 0, 8, 8], [0.0, 0, 0, 200, 200], [0.0, 0, 0, 900, 900]])
    scales = [1 / 8, 1 / 16, 1 / 32]
    found = under_every_schedule(ops.multiscale_roi_align, maps, boxes, 2, scales, 2)
    args = (boxes, scales, 2, 2, 2, False, 224.0, 4)
    assert_close(found, multiscale_roi_align([each.double() for each in maps], *args), 16)
    grad, sizes = torch.randn(3, 4, 2, 2), (1, 4, [8, 0, 2], [8, 4, 2])
    args = (boxes, scales, 2, 2, *sizes, 2, False, 224.0, 4)
    found = under_every_schedule(multiscale_backward, grad, *args)
    for mine, theirs in zip(
        found, multiscale_roi_align_backward(grad.double(), *args), strict=True
    ):
        assert_close(mine, theirs, 64)


def test_float64_is_refused_with_the_way_out() -> None:
    image, boxes = to_device(torch.zeros(1, 4, 8, 8).double()), to_device(torch.zeros(1, 5))
    with as_on(90), pytest.raises(UnsupportedError, match=r"float32; convert the inputs"):
        ops.roi_align(image, boxes, 2)


def _case(
    check: Any,
    ratio: int,
    channels: int = 8,
    bins: tuple[int, int] = (2, 3),
    layout: torch.memory_format = CHANNELS_LAST,
) -> Any:
    def case() -> None:
        torch.manual_seed(0)
        boxes = random_boxes(40, 1, (9, 13))
        check((1, channels, 9, 13), boxes, bins, (ratio, True, 1.0), layout=layout)

    case.__name__ = f"{check.__name__}_{ratio}_{channels}"
    return case


samples, adaptive = _case(check_forward, 2), _case(check_forward, -1)
turned = _case(check_forward, 2, 40, (6, 7), PLANES)  # more bins than a block turns at a time
gradient = _case(check_backward, 2)
gradient_of_planes = _case(check_backward, 2, 16, layout=PLANES)


def no_image() -> None:
    torch.manual_seed(0)
    test_a_box_of_no_image_is_zeros_and_adds_nothing(2)


def infinity() -> None:
    test_an_infinite_value_reaches_what_the_cpu_lets_it_reach()


def levels() -> None:
    test_levels_are_those_of_the_op()


FAULTS = [
    Fault("pixels are read before the tables are made", "roi_align.cu",
          """  if (place.level >= 0) fill_tables(s, tables, boxes, k, place.level, channels / VEC);
  __syncthreads();""",
          "  if (place.level >= 0) fill_tables(s, tables, boxes, k, place.level, channels / VEC);",
          samples),
    Fault("columns have the weights of rows", "roi_align.cu",
          "row.weight * column[u].weight", "row.weight * row.weight", samples),
    Fault("columns are found by the number of rows", "roi_align.cu",
          "bin / s.bins_x, bin % s.bins_x, map + channel, sum", "bin % s.bins_y, bin / s.bins_y, "
          "map + channel, sum", samples),
    Fault("lists of bins overlap", "roi_align.cu", "axis.pixels) + 4 * p;", "axis.pixels) + p;",
          adaptive),
    Fault("the last pixel of a row of them is left out", "roi_align.cu",
          "first + u < columns.y", "first + u < columns.y - 1", samples),
    Fault("a tile is read before it is turned", "roi_align.cu",
          "from_float<T>(sum[v]);\n      __syncthreads();", "from_float<T>(sum[v]);", turned),
    Fault("a tile is overwritten while it is read", "roi_align.cu",
          """        }
      }
      __syncthreads();""", """        }
      }""", turned),
    Fault("a box of no image is read", "roi_sampling.cuh",
          "place.level = -1;\n  }\n  return place;", "place.image = 0;\n  }\n  return place;",
          no_image),
    Fault("a sample beyond the last pixel's centre is lost", "roi_sampling.cuh",
          "last ? 0.0 : position", "position", adaptive),
    Fault("a shared pixel loses what the sample before gave it", "roi_sampling.cuh",
          "weight = adjacent ? next_weight : 0.0;", "weight = 0.0;", samples),
    Fault("the edge of a level is a sample too low", "roi_sampling.cuh", "+ 1e-6f", "- 1e-6f",
          levels),
    Fault("pixels that a bin does not read have weight zero", "roi_align_backward.cu",
          "kUntouched = -1.0f", "kUntouched = 0.0f", infinity),
    Fault("weights are written over before they are read", "roi_align_backward.cu",
          """kUntouched;
    }
  }
  __syncthreads();""", """kUntouched;
    }
  }""", gradient),
    Fault("a box that ends in a tile is not on its list", "roi_align_backward.cu",
          "extent.w > x;", "extent.w > x + kTile;", gradient),
    Fault("hits are counted before all warps have found theirs", "roi_hits.cuh",
          "__popc(hits);\n  __syncthreads();", "__popc(hits);", gradient),
    Fault("hits are read before they are written", "roi_align_backward.cu",
          "    __syncthreads();\n    for (int n = 0; n < slot.total; ++n) {",
          "    for (int n = 0; n < slot.total; ++n) {", gradient),
    Fault("the last column of bins is left out", "roi_align_backward.cu",
          "j < one.last_column;", "j < one.last_column - 1;", gradient),
    Fault("a tile's rows are half as many", "roi_align_backward.cu",
          "if (i < count) row[i] =", "if (i < count / 2) row[i] =", gradient_of_planes),
]  # fmt: skip
