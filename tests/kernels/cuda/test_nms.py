"""NMS in CUDA C++: index for index what the CPU kernel answers, whatever the schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from cvperf import UnsupportedError, ops
from cvperf.backends.cuda import nms as backend
from cvperf.backends.cuda.nms_model import BLOCKS, Blocks
from tests.kernels.cuda.emulation import Schedule
from tests.kernels.cuda.faults import Fault
from tests.kernels.cuda.harness import SCHEDULES, on_cuda
from tests.ops.test_nms_exact import CLASSES, LAYOUTS, SCORES

# Chunks of two blocks of two warps, so that a few hundred boxes pass every kernel.
SMALL = replace(BLOCKS, threads=64, chunk=128, items=32, counting=64, placing=64)
SORTED = replace(SMALL, counted=0)


def on_blocks(blocks: Blocks, op: Callable[..., Any], *args: Any, schedule: Schedule) -> Any:
    with mock.patch.object(backend, "BLOCKS", blocks), filled_memory():
        return on_cuda(op, *args, schedule=schedule)


@contextmanager
def filled_memory() -> Iterator[None]:
    """New tensors hold NaN and the largest integers, so that what is read was written."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def check(
    op: Callable[..., Any],
    *args: Any,
    blocks: Blocks = SMALL,
    schedules: list[Schedule] = SCHEDULES[:1],
) -> None:
    """Held to the CPU kernel, which tests/ops/test_nms_exact.py holds to torchvision."""
    expected = op(*args)
    for schedule in schedules:
        found = on_blocks(blocks, op, *args, schedule=schedule)
        several = isinstance(found, tuple)
        pairs = zip(found, expected, strict=True) if several else [(found, expected)]
        for one, wanted in pairs:
            assert one.dtype == wanted.dtype
            assert one.tolist() == wanted.tolist(), f"{list(args[0].shape)} boxes, {schedule}"


def crowd(count: int, images: int | None = None) -> tuple[Tensor, Tensor]:
    """Boxes of which about half are kept."""
    shape = (count,) if images is None else (images, count)
    corner = torch.rand(*shape, 2) * 4.5 * count**0.5
    boxes = torch.cat([corner, corner + 5 + torch.rand(*shape, 2) * 25], -1)
    return boxes, torch.rand(shape)


def falling(count: int) -> Tensor:
    return torch.linspace(1, 0, count)


def chunks_of_boxes() -> None:
    check(ops.nms, *crowd(300), 0.4)


def chunks_of_boxes_in_reverse() -> None:
    check(ops.nms, *crowd(300), 0.4, schedules=SCHEDULES[:3])


def classes_across_chunks() -> None:
    boxes, scores = crowd(300)
    check(ops.batched_nms, boxes / 2, scores, torch.randint(0, 4, (300,)), 0.3)


def the_first_of_each_image() -> None:
    check(ops.nms_padded, *crowd(150, images=2), 0.4, 40)


def more_places_than_boxes() -> None:
    check(ops.nms_padded, *crowd(100, images=2), 0.4, 130)


def integer_boxes_at_the_threshold() -> None:
    # Many IoUs are 1/2 exactly: not above it, but above the float32 before it. Only dividing tells.
    for threshold in (0.5, 0.5 - 1e-10):
        check(ops.nms, LAYOUTS["integer boxes"](128), torch.rand(128), threshold)


def a_chain() -> None:
    # Each box suppresses the next in line: every second one stays, and all rounds are needed.
    left = torch.arange(300.0)[:, None] * 2
    boxes = torch.cat([left, 0 * left, left + 5, 0 * left + 1], 1)
    check(ops.nms, boxes, falling(300), 0.4)


def pairs_far_apart_in_rank() -> None:
    # Box i is suppressed by box i - 150 alone: one chunk after, and in another tile.
    boxes = LAYOUTS["disjoint"](150)
    check(ops.nms, torch.cat([boxes, boxes + 1]), falling(300), 0.4)


def equal_scores() -> None:
    boxes, _ = crowd(200)
    scores = torch.tensor([0.0, -0.0, math.nan, -math.nan, 1.0])[torch.randint(0, 5, (200,))]
    check(ops.nms, boxes, scores, 0.5)


def scores_in_order() -> None:
    # Nothing is suppressed: the answer is the order. Ties across tiles go by index.
    check(ops.nms, crowd(200)[0], torch.randint(0, 9, (200,)) / 9, 1.0)


def boxes_that_only_touch_at_a_negative_threshold() -> None:
    # An IoU of 0 suppresses: nothing may be pruned.
    boxes = LAYOUTS["disjoint"](200)
    boxes[0] += 1e4
    check(ops.nms, boxes, falling(200), -0.5)


CASES = [
    *(chunks_of_boxes, chunks_of_boxes_in_reverse, classes_across_chunks, the_first_of_each_image),
    *(more_places_than_boxes, integer_boxes_at_the_threshold, a_chain, pairs_far_apart_in_rank),
    *(equal_scores, scores_in_order, boxes_that_only_touch_at_a_negative_threshold),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_case(case: Callable[[], None]) -> None:
    case()


@pytest.mark.parametrize("blocks", [SMALL, SORTED], ids=["counted", "sorted"])
def test_every_schedule(blocks: Blocks) -> None:
    boxes, scores = crowd(300)
    every = {"blocks": blocks, "schedules": SCHEDULES}
    check(ops.nms, boxes, scores, 0.4, **every)
    check(ops.batched_nms, boxes, scores, torch.randint(0, 3, (300,)), 0.2, **every)
    check(ops.nms_padded, *crowd(200, images=2), 0.4, 110, **every)


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256, 257, 449])
def test_every_remainder(count: int) -> None:
    for blocks in (SMALL, SORTED):
        check(ops.nms, *crowd(count), 0.4, blocks=blocks)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_boxes(layout: str) -> None:
    scores = list(SCORES)[list(LAYOUTS).index(layout) % len(SCORES)]
    for threshold in (-0.5, 0.0, 0.3, 0.5, 0.7):
        check(ops.nms, LAYOUTS[layout](300), SCORES[scores](300), threshold)


@pytest.mark.parametrize(
    "threshold", [-math.inf, -1e-60, 0.0, 1e-45, 1e-31, 0.5 + 1e-10, 1 - 1e-9, 1.0, 1e300, math.inf]
)
@pytest.mark.parametrize("layout", ["some special", "all special", "huge", "area underflows"])
def test_every_threshold(layout: str, threshold: float) -> None:
    check(ops.nms, LAYOUTS[layout](200), torch.rand(200), threshold)


@pytest.mark.parametrize("scores", SCORES)
def test_every_kind_of_score(scores: str) -> None:
    for blocks in (SMALL, SORTED):
        for sign in (1, -1):
            check(ops.nms, crowd(200)[0], sign * SCORES[scores](200), 1.0, blocks=blocks)


@pytest.mark.parametrize("classes", CLASSES)
def test_every_kind_of_class(classes: str) -> None:
    check(ops.batched_nms, *crowd(270), CLASSES[classes](270), 0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_compared_in_float32(dtype: torch.dtype) -> None:
    boxes, scores = crowd(150)
    for blocks in (SMALL, SORTED):
        check(ops.nms, boxes.to(dtype), scores.to(dtype), 0.4, blocks=blocks)


@pytest.mark.parametrize("most", [0, 1, 127, 128, 129, 400])
def test_padding(most: int) -> None:
    check(ops.nms_padded, *crowd(270, images=1), 0.6, most)


@pytest.mark.parametrize("count", [1000, 2100])
def test_the_shipped_sizes(count: int) -> None:
    check(ops.nms, *crowd(count), 0.4, blocks=BLOCKS)


def test_identical_boxes_leave_one() -> None:
    check(ops.nms, torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(300, 1), torch.rand(300), 0.5)


def test_empty_input_gives_an_empty_answer() -> None:
    none, labels = (torch.empty(0, 4), torch.empty(0)), torch.empty(0, dtype=torch.int64)
    check(ops.nms, *none, 0.5)
    check(ops.batched_nms, *none, labels, 0.5)
    check(ops.nms_padded, torch.empty(0, 5, 4), torch.empty(0, 5), 0.5, 3)
    check(ops.nms_padded, torch.empty(2, 0, 4), torch.empty(2, 0), 0.5, 3)


def test_boxes_may_lie_anywhere() -> None:
    boxes, scores = crowd(100)
    spread, shifted = torch.zeros(100, 9), torch.empty(401)[1:].view(100, 4)
    spread[:, ::2][:, :4] = boxes
    shifted.copy_(boxes)
    check(ops.nms, spread[:, ::2][:, :4], scores.repeat_interleave(2)[::2], 0.4)
    check(ops.nms, shifted, scores, 0.4)


def test_float64_is_refused_with_the_way_out() -> None:
    boxes, scores = crowd(5)
    with pytest.raises(UnsupportedError, match=r"cuda: takes float16, bfloat16, float32"):
        on_cuda(ops.nms, boxes.double(), scores.double(), 0.5)


def test_too_many_images_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        UnsupportedError, match=r"up to 65535 images .* got 70000 of 1; .*\.cpu\(\)"
    ):
        on_cuda(ops.nms_padded, torch.zeros(70_000, 1, 4), torch.zeros(70_000, 1), 0.5, 1)


def test_pruning_leaves_a_number_of_comparisons_that_grows_with_the_boxes() -> None:
    """A model of nms_suppress in NumPy, on uniform boxes as dense at every size."""
    left = {}
    for count in (4096, 8192, 16384):
        in_other_chunks = 1 - BLOCKS.chunk / count  # share of the pairs of boxes
        left[count] = comparisons(count) / (count * in_other_chunks)
    assert max(left.values()) < 1.1 * min(left.values()), left


def comparisons(count: int) -> int:
    """Pairs of a kept box and a later one of another chunk that are left of pruning."""
    rng = np.random.default_rng(0)
    corner = rng.random((count, 2)) * 8 * count**0.5
    boxes = np.concatenate([corner, corner + 5 + rng.random((count, 2)) * 25], 1).astype(np.float32)
    kept = np.zeros(count, dtype=bool)
    kept[ops.nms(torch.from_numpy(boxes), torch.linspace(1, 0, count), 0.5).numpy()] = True
    ranks = np.argsort(-place_keys(boxes), kind="stable")
    chunk, pairs = BLOCKS.chunk, 0
    for begin in range(0, count - chunk, chunk):
        sources = boxes[begin : begin + chunk][kept[begin : begin + chunk]]
        for tile in np.array_split(ranks, range(32, count, 32)):
            later = boxes[tile[tile >= begin + chunk]]
            if len(later) == 0:
                continue
            low, high = later[:, :2].min(0), later[:, 2:].max(0)
            near = (sources[:, :2] < high).all(1) & (sources[:, 2:] > low).all(1)
            pairs += int(near.sum()) * 32
    return pairs


def place_keys(boxes: np.ndarray) -> np.ndarray:
    """gpu::place_key of sound boxes."""

    def cells(x: np.ndarray) -> np.ndarray:
        bits = x.astype(np.float32).view(np.int32)
        cell = np.clip(((bits & 0x7FFFFFFF) >> 16) - (119 << 7), 0, 4095)
        return np.where(bits < 0, 4095 - cell, 4096 + cell).astype(np.int64)

    def spread(x: np.ndarray) -> np.ndarray:
        for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
            x = (x | x << shift) & mask
        return x

    sides, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) * 0.5
    octave = (sides.max(1).view(np.int32) >> 23) - 119
    level = (np.clip(octave, 0, 31) >> 1).astype(np.int64)
    return level << 26 | spread(cells(centre[:, 1])) << 1 | spread(cells(centre[:, 0]))


FAULTS = [
    Fault("the box just before is left out", "nms.cu",
          "(1u << lane) - 1;\n    const unsigned found",
          "((1u << lane) - 1) >> 1;\n    const unsigned found", a_chain),
    Fault("rows of the last pair are overwritten while they are read", "nms.cu",
          "    __syncwarp();\n    list.set(threadIdx.x", "    list.set(threadIdx.x",
          chunks_of_boxes_in_reverse),
    Fault("rows are read before they are written", "nms.cu",
          "    __syncwarp();\n    const unsigned before", "    const unsigned before",
          chunks_of_boxes),
    Fault("a pair of 32 is compared twice, another one never", "nms.cu", "column = low;",
          "column = low + 1;", chunks_of_boxes),
    Fault("the classes are not kept apart", "nms.cu", "list.labels[rows + j] == label;",
          "list.labels[rows + j] != label + 9;", classes_across_chunks),
    Fault("what another chunk kept suppresses every class", "nms.cu",
          "list.labels[other] == label)", "list.labels[other] != label + 9)",
          classes_across_chunks),
    Fault("doubts are not divided", "nms.cuh",
          "return inter / (a.area() + b.area() - inter) > threshold.value;", "return true;",
          integer_boxes_at_the_threshold),
    Fault("the first boxes that a chunk keeps are left out", "nms.cu",
          "first = begin + static_cast<int>(blockIdx.y) * part",
          "first = begin + 32 + static_cast<int>(blockIdx.y) * part", pairs_far_apart_in_rank),
    Fault("the list is read before it is written", "nms.cu",
          "    __syncthreads();\n    const int size", "    const int size",
          chunks_of_boxes_in_reverse),
    Fault("boxes that do not meet are pruned though 0 suppresses", "nms.cu",
          "base + lane < size && (!threshold.prunes() || meets(list.corners[base + lane], tile))",
          "base + lane < size && meets(list.corners[base + lane], tile)",
          boxes_that_only_touch_at_a_negative_threshold),
    Fault("one round settles a block", "nms_settle.cuh", "__syncthreads_or(bits != before) != 0;",
          "__syncthreads_or(bits != before) > 1;", a_chain),
    Fault("a warp's boxes ignore each other", "nms_settle.cuh", "(beside & last) == 0",
          "(beside & last) != gpu::EVERY_LANE",
          a_chain),
    Fault("boxes kept before in the chunk are left out", "nms_settle.cuh", "row < own; ++row",
          "row < 0; ++row", chunks_of_boxes),
    Fault("more boxes are counted than wanted", "nms_settle.cuh", "__popc(word)), sizes.limit);",
          "__popc(word)), sizes.count);", the_first_of_each_image),
    Fault("an answer is padded with 0", "nms_settle.cuh", "answer.indices[place] = -1",
          "answer.indices[place] = 0", more_places_than_boxes),
    Fault("a block settles before the last one has arrived", "nms_settle.cuh", "== blocks - 1;",
          "== (blocks - 1) / 2;", pairs_far_apart_in_rank),
    Fault("NaN comes by its bits", "nms.cuh", "if (magnitude > 0x7F800000) return 0x7FFFFFFF;", "",
          equal_scores),
    Fault("ties go to the higher index", "nms_order.cu", "side < 0 ? own - 1 : own",
          "side > 0 ? own - 1 : own", scores_in_order),
]  # fmt: skip
