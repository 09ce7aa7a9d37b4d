"""NMS in Triton: index for index what the CPU kernel answers, ties and NaN included."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from cvperf import UnsupportedError, ops
from cvperf.backends.gpu.configs import Config, Space
from cvperf.backends.triton import nms as backend
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import on_triton
from tests.ops.test_nms_exact import CLASSES, LAYOUTS, SCORES

# Chunks of two blocks, so that a few hundred boxes pass every kernel.
TILES = Config.of(4, 1, COLUMNS=128, WORDS=4)
SMALL = {
    "CHUNK": 256,
    "SORTED": Config.of(4, 1, BLOCK=128),
    "SOLVE": Config.of(4, 1, BLOCK=128, STREAM=4, STAGES=3),
    "PAIRS": Space("nms_overlaps", {90: {"small": TILES, "large": TILES}}, lambda _: 0, {}),
}


def on_small_tiles(op: Callable[..., Any], *args: Any) -> Any:
    with mock.patch.multiple(backend, **SMALL), np.errstate(all="ignore"):
        return on_triton(op, *args)


def check(op: Callable[..., Any], *args: Any) -> None:
    """Held to the CPU kernel, which tests/ops/test_nms_exact.py holds to torchvision."""
    found, expected = on_small_tiles(op, *args), op(*args)
    if isinstance(found, Tensor):
        found, expected = (found,), (expected,)
    for one, wanted in zip(found, expected, strict=True):
        assert one.dtype == wanted.dtype
        assert one.tolist() == wanted.tolist()


def crowd(count: int, images: int | None = None) -> tuple[Tensor, Tensor]:
    """Boxes of which about half are kept."""
    shape = (count,) if images is None else (images, count)
    corner = torch.rand(*shape, 2) * 8 * count**0.5
    boxes = torch.cat([corner, corner + 5 + torch.rand(*shape, 2) * 25], -1)
    return boxes, torch.rand(shape)


def three_chunks() -> None:
    check(ops.nms, *crowd(650), 0.4)


def classes_across_chunks() -> None:
    boxes, scores = crowd(650)
    check(ops.batched_nms, boxes / 2, scores, torch.randint(0, 4, (650,)), 0.3)


def the_first_of_each_image() -> None:
    check(ops.nms_padded, *crowd(300, images=2), 0.4, 150)


def integer_boxes_at_the_threshold() -> None:
    # Many IoUs are 1/2 exactly: not above it, but above the float32 before it. Only dividing tells.
    for threshold in (0.5, 0.5 - 1e-10):
        check(ops.nms, LAYOUTS["integer boxes"](200), torch.rand(200), threshold)


def a_chain() -> None:
    # Each box suppresses the next in line: every second one stays, and 200 rounds settle them.
    left = torch.arange(200.0)[:, None] * 2
    boxes = torch.cat([left, 0 * left, left + 5, 0 * left + 1], 1)
    check(ops.nms, boxes, torch.linspace(1, 0, 200), 0.4)


def equal_scores() -> None:
    boxes, _ = crowd(200)
    scores = torch.tensor([0.0, -0.0, math.nan, -math.nan, 1.0])[torch.randint(0, 5, (200,))]
    check(ops.nms, boxes, scores, 0.5)


@pytest.mark.parametrize(
    "case",
    [
        *(three_chunks, classes_across_chunks, the_first_of_each_image),
        *(integer_boxes_at_the_threshold, a_chain, equal_scores),
    ],
    ids=lambda case: case.__name__,
)
def test_case(case: Callable[[], None]) -> None:
    case()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_boxes(layout: str) -> None:
    names = list(LAYOUTS)
    threshold = (-0.5, 0.0, 0.3, 1 / 3, 0.5, 0.7, 1.0)[names.index(layout) % 7]
    scores = list(SCORES)[names.index(layout) % len(SCORES)]
    check(ops.nms, LAYOUTS[layout](300), SCORES[scores](300), threshold)


@pytest.mark.parametrize(
    "threshold", [-math.inf, -1e-60, 0.0, 1e-45, 1e-31, 0.5 + 1e-10, 1 - 1e-9, 1e300, math.inf]
)
def test_every_threshold(threshold: float) -> None:
    check(ops.nms, LAYOUTS["some special"](100), torch.rand(100), threshold)


@pytest.mark.parametrize("classes", CLASSES)
def test_every_kind_of_class(classes: str) -> None:
    boxes, scores = crowd(270)
    check(ops.batched_nms, boxes, scores, CLASSES[classes](270), 0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_compared_in_float32(dtype: torch.dtype) -> None:
    boxes, scores = crowd(150)
    check(ops.nms, boxes.to(dtype), scores.to(dtype), 0.4)


@pytest.mark.parametrize("most", [0, 1, 127, 400])
def test_padding(most: int) -> None:
    check(ops.nms_padded, *crowd(270, images=1), 0.6, most)


def test_empty_input_gives_an_empty_answer() -> None:
    none, labels = (torch.empty(0, 4), torch.empty(0)), torch.empty(0, dtype=torch.int64)
    check(ops.nms, *none, 0.5)
    check(ops.batched_nms, *none, labels, 0.5)
    check(ops.nms_padded, torch.empty(0, 5, 4), torch.empty(0, 5), 0.5, 3)
    check(ops.nms_padded, torch.empty(2, 0, 4), torch.empty(2, 0), 0.5, 3)


def test_strided_tensors() -> None:
    boxes, scores = crowd(100)
    spread = torch.zeros(100, 9)
    spread[:, ::2][:, :4] = boxes
    found = on_small_tiles(ops.nms, spread[:, ::2][:, :4], scores.repeat_interleave(2)[::2], 0.4)
    assert found.tolist() == ops.nms(boxes, scores, 0.4).tolist()


@pytest.mark.parametrize("threshold", [0.5, 0.3, 1 / 3, 0.7, -0.1, 1e-50, -1e-50, 2.0, 1e300])
def test_the_threshold_is_rounded_down(threshold: float) -> None:
    screens = backend.Screens.of(threshold)
    with np.errstate(over="ignore"):
        above = float(np.nextafter(np.float32(screens.threshold), np.float32(math.inf)))
    assert screens.threshold <= threshold < above


def test_float64_is_refused_with_the_way_out() -> None:
    boxes, scores = crowd(5)
    with pytest.raises(UnsupportedError, match=r"triton: takes float16, bfloat16, float32"):
        on_triton(ops.nms, boxes.double(), scores.double(), 0.5)


FAULTS = [
    Fault("the box just before is left out", "nms", "found &= _low_bits(i - position)",
          "found &= _low_bits(i - position - 1)", a_chain),
    Fault("the classes are not kept apart", "nms", "found &= ~_low_bits(its_first - position)",
          "found &= ~_low_bits(0 * its_first)", classes_across_chunks),
    Fault("a class that goes on in the next chunk is forgotten", "nms",
          "mask=begin < count, other=2147483647) < after", "mask=begin < count, other=0) < 0",
          classes_across_chunks),
    Fault("one round settles a block", "nms", "changed = tl.reduce_or(better ^ bits, 0)",
          "changed = 0", a_chain),
    Fault("boxes kept before in the chunk are left out", "nms",
          "in tl.range(0, offset // 32, STREAM", "in tl.range(0, 0, STREAM",
          three_chunks),
    Fault("doubts are not divided", "nms", "if doubtful | (threshold", "if (threshold",
          integer_boxes_at_the_threshold),
    Fault("the first boxes that a chunk keeps are left out", "nms",
          "position = tl.load(ends) +", "position = tl.load(ends) + 32 +", three_chunks),
    Fault("more than the wanted boxes", "nms", "wanted = stay & (place < limit)", "wanted = stay",
          the_first_of_each_image),
    Fault("NaN comes by its bits", "nms", "magnitude > 0x7F800000", "magnitude < 0", equal_scores),
]  # fmt: skip
