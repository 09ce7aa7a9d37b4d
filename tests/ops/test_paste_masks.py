"""Masks are pasted as torchvision pastes them, thresholded in the same pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError

roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")

SIZE = (211, 307)


def random_boxes(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    """From specks to the whole image, clipped to it as a detector does."""
    limit = torch.tensor([size[1], size[0]], dtype=torch.float32)
    corner = torch.rand(count, 2) * limit * 0.9
    extent = torch.rand(count, 2) ** 3 * limit
    return torch.cat([corner, torch.minimum(corner + extent, limit)], 1)


def assert_pasted(found: Tensor, exact: Tensor, threshold: float | None, error: float) -> None:
    if threshold is None:
        difference = (found.double() - exact.double()).abs().max()
        assert difference <= error, f"differs by {difference}"
    else:
        sure = (exact.double() - threshold).abs() > error
        assert torch.equal(found[sure], (exact > threshold)[sure])
        assert found.dtype == torch.bool


@pytest.mark.parametrize("threshold", [None, 0.5, 0.0])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_answers_as_torchvision(isa: str, padding: int, threshold: float | None) -> None:
    masks, boxes = torch.rand(12, 1, 28, 28), random_boxes(12)
    expected = roi_heads.paste_masks_in_image(masks, boxes, SIZE, padding)
    found = ops.paste_masks(masks, boxes, SIZE, threshold, padding)
    assert found.shape == (12, 1, *SIZE)
    assert_pasted(found, expected, threshold, 2e-6)


@pytest.mark.skipif(
    "AVX" not in torch.backends.cpu.get_cpu_capability(), reason="torch has no multiply-add here"
)
def test_large_masks_have_torchvisions_bits() -> None:
    masks = torch.rand(20, 1, 28, 28)
    corner = torch.rand(20, 2) * 60
    boxes = torch.cat([corner, corner + 70 + torch.rand(20, 2) * 70], 1)
    expected = roi_heads.paste_masks_in_image(masks, boxes, SIZE)
    found = ops.paste_masks(masks, boxes, SIZE, None)
    wrong = int((found != expected).sum())
    assert wrong == 0, f"{wrong} of {found.numel()} pixels differ"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("boxes_dtype", [torch.float16, torch.float32, torch.float64])
def test_every_dtype_agrees_with_float64(
    isa: str, dtype: torch.dtype, boxes_dtype: torch.dtype
) -> None:
    masks, boxes = torch.rand(9, 14, 14).to(dtype), random_boxes(9).to(boxes_dtype)
    arguments = (boxes, *SIZE, None, 1)
    exact = reference.paste_masks(masks.double(), *arguments)
    error = {torch.float16: 1e-3, torch.bfloat16: 4e-3, torch.float32: 5e-6, torch.float64: 1e-13}
    found = ops.paste_masks(masks, boxes, SIZE, None)
    assert found.dtype == dtype
    assert_pasted(found, exact, None, error[dtype])
    assert_pasted(ops.paste_masks(masks, boxes, SIZE), exact, 0.5, 5e-6)


def test_a_mask_by_hand(isa: str) -> None:
    """A box of 2 x 2 pixels, grown by half its size on each side, is the padded mask itself."""
    mask, box = torch.tensor([[[0.25, 0.5], [0.75, 1.0]]]), torch.tensor([[3.0, 1, 5, 3]])
    found = ops.paste_masks(mask, box, (6, 8), None)
    # Expanded to (2, 0, 6, 4): with both ends 5 x 5 pixels of a padded mask of 4 x 4.
    assert found[0, 2, 4] == 0.625, "its middle is the middle of the mask"
    assert found[0, :, :2].eq(0).all()
    assert found[0, :, 7:].eq(0).all()
    assert found[0, 5:].eq(0).all()


@pytest.mark.parametrize("outside", [
    [400.0, 3, 420, 9], [3, 300, 9, 320], [-60, 3, -30, 9], [3, -60, 9, -30],
    [math.nan, 0, 9, 9], [0, math.inf, 9, 9], [-1e30, 0, 1e30, 9], [40, 40, 10, 10],
])  # fmt: skip
def test_a_box_that_is_nowhere_leaves_the_image_empty(isa: str, outside: list[float]) -> None:
    boxes = torch.tensor([[5.0, 5, 60, 70], outside, [20.0, 9, 50, 40]])
    found = ops.paste_masks(torch.ones(3, 5, 5), boxes, SIZE)
    assert [bool(image.any()) for image in found] == [True, False, True]


def test_boxes_reach_over_every_edge(isa: str) -> None:
    boxes = torch.tensor([[-30.0, -20, 340, 240], [-9, 100, 20, 130], [280, 190, 330, 230]])
    masks = torch.rand(3, 28, 28)
    exact = reference.paste_masks(masks.double(), boxes, *SIZE, None, 1)
    assert_pasted(ops.paste_masks(masks, boxes, SIZE, None), exact, None, 5e-6)


@pytest.mark.parametrize("size", [(0, 9), (9, 0), (1, 1), (3, 2000)], ids=str)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_masks_and_any_image(isa: str, count: int, size: tuple[int, int]) -> None:
    boxes = torch.tensor([[0.0, 0, 1500, 3]]).expand(count, 4)
    found = ops.paste_masks(torch.ones(count, 7, 7), boxes, size)
    assert found.shape == (count, *size)
    assert found.dtype == torch.bool


def test_outputs_larger_than_the_caches_are_whole(isa: str) -> None:
    """From 24 MB on they are stored past the caches."""
    masks, boxes = torch.rand(7, 1, 28, 28), random_boxes(7, (1001, 1003))
    expected = roi_heads.paste_masks_in_image(masks, boxes, (1001, 1003))
    assert_pasted(ops.paste_masks(masks, boxes, (1001, 1003), None), expected, None, 5e-6)
    many = ops.paste_masks(masks.repeat(4, 1, 1, 1), boxes.repeat(4, 1), (1001, 1003))
    assert torch.equal(many[:7], many[21:])
    assert_pasted(many[:7], expected, 0.5, 5e-6)


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    masks, boxes = torch.rand(12, 28, 28), random_boxes(12)
    answers = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        answers.append(ops.paste_masks(masks, boxes, SIZE, None))
    torch.set_num_threads(2)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_layouts_are_served_and_gradients_are_not() -> None:
    masks = torch.rand(5, 14, 14, 2)[..., 0].transpose(1, 2).requires_grad_()
    boxes = random_boxes(5).repeat(1, 2)[:, 1:5]
    found = ops.paste_masks(masks, boxes, SIZE, None)
    assert torch.equal(found, ops.paste_masks(masks.contiguous(), boxes.contiguous(), SIZE, None))
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": torch.rand(2, 3, 5, 5)}, "Pick each object's class first"),
        ({"masks": torch.rand(2, 5, 6)}, r"masks must be masks\[K, M, M\]"),
        ({"masks": torch.rand(2, 0, 0)}, "M of 1 or more"),
        ({"masks": torch.zeros(2, 5, 5, dtype=torch.uint8)}, "masks must be .* got uint8"),
        ({"boxes": torch.rand(3, 4)}, "one a mask"),
        ({"boxes": torch.rand(2, 5)}, r"boxes must be boxes\[K, 4\]"),
        ({"image_size": (1, 2, 3)}, r"image_size must be \(height, width\)"),
        ({"image_size": (-1, 2)}, r"image_size\[0\] must be 0 or more"),
        ({"padding": -1}, "padding must be 0 or more"),
        ({"threshold": math.nan}, "threshold is NaN"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"masks": torch.rand(2, 5, 5), "boxes": torch.rand(2, 4), "image_size": (9, 9)}
    with pytest.raises(ArgumentError, match=message):
        ops.paste_masks(**{**arguments, **change})


@pytest.mark.parametrize("change", [
    {"masks": [1.0]}, {"boxes": None}, {"image_size": 9}, {"image_size": (9, 9.5)},
    {"threshold": "half"}, {"padding": 1.0},
])  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    arguments = {"masks": torch.rand(2, 5, 5), "boxes": torch.rand(2, 4), "image_size": (9, 9)}
    with pytest.raises(TypeError, match=next(iter(change))):
        ops.paste_masks(**{**arguments, **change})


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_opcheck_compile_and_export(threshold: float | None) -> None:
    masks, boxes = torch.rand(4, 14, 14), random_boxes(4)
    torch.library.opcheck(torch.ops.cvperf.paste_masks.default, (masks, boxes, *SIZE, threshold, 1))

    def paste(masks: Tensor, boxes: Tensor) -> Tensor:
        return ops.paste_masks(masks.sigmoid(), boxes, SIZE, threshold)

    compiled = torch.compile(paste, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(masks, boxes), paste(masks, boxes))


def test_the_reference_can_be_asked_for() -> None:
    masks, boxes = torch.rand(4, 14, 14), random_boxes(4)
    with prefer("reference"):
        expected = ops.paste_masks(masks, boxes, SIZE, None)
    assert_pasted(ops.paste_masks(masks, boxes, SIZE, None), expected, None, 5e-6)
