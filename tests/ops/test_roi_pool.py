"""RoI pooling answers as torchvision does, bit for bit, and is a torch citizen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError
from cvperf.ops import roi_pool
from tests.ops.test_roi_align import BOTH_LAYOUTS, SHAPES, forward_and_gradient, random_boxes

torchvision = pytest.importorskip("torchvision")


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("levels", [3, 1000], ids=["ties", "few_ties"])
def test_output_and_argmax_equal_torchvision(
    shape: Any, dtype: torch.dtype, scale: float, levels: int, layout: Any, isa: str
) -> None:
    n, c, h, w, count, bins = shape
    image = torch.randint(-levels, levels, (n, c, h, w)).to(dtype)
    boxes = random_boxes(count, n, (h, w)).to(dtype)
    boxes[:, 1:] /= scale
    output, argmax = torch.ops.cvperf.roi_pool(
        image.contiguous(memory_format=layout), boxes, scale, *bins
    )
    expected, expected_argmax = torch.ops.torchvision.roi_pool(image, boxes, scale, *bins)
    wrong = (output != expected).sum()
    assert wrong == 0, f"{wrong} of {output.numel()} values differ on {isa}"
    wrong = (argmax != expected_argmax).sum()
    assert wrong == 0, f"{wrong} of {output.numel()} positions differ on {isa}"
    assert output.is_contiguous(memory_format=layout), f"output has strides {output.stride()}"
    weights = torch.randn(output.shape).to(dtype).contiguous(memory_format=layout)
    sizes = (scale, *bins, n, c, h, w)
    gradient = torch.ops.cvperf.roi_pool_backward(weights, boxes, argmax, *sizes)
    theirs = torch.ops.torchvision._roi_pool_backward(
        weights.contiguous(), boxes, expected_argmax, *sizes
    )
    assert torch.equal(gradient, theirs), f"differ by {(gradient - theirs).abs().max()}"


@BOTH_LAYOUTS
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_the_kernel_agrees_with_the_reference_backend(dtype: torch.dtype, layout: Any) -> None:
    image = torch.randn(2, 21, 17, 23).to(dtype).contiguous(memory_format=layout)
    boxes = random_boxes(30, 2, (17, 23), seed=3).float()
    got = forward_and_gradient(roi_pool, image, boxes, (4, 5), 0.9)
    with prefer("reference"):
        expected = forward_and_gradient(roi_pool, image, boxes, (4, 5), 0.9)
    assert torch.equal(got[0], expected[0]), "forward"
    largest = (got[1].double() - expected[1].double()).abs().max()
    rounding = torch.finfo(dtype).eps * expected[1].double().abs().max()
    assert largest <= rounding, f"gradient differs by {largest}, one rounding is {rounding}"


@BOTH_LAYOUTS
def test_nan_and_infinite_pixels_are_answered_as_torchvision_answers_them(layout: Any) -> None:
    values = torch.tensor([float("nan"), -float("inf"), float("inf"), -1.0, 2.0])
    image = values[torch.randint(0, 5, (1, 19, 12, 12))]
    image[:, :4] = float("nan")
    image[:, 4:6] = -float("inf")
    boxes = random_boxes(20, 1, (12, 12)).float()
    got = torch.ops.cvperf.roi_pool(image.contiguous(memory_format=layout), boxes, 1.0, 4, 4)
    expected = torch.ops.torchvision.roi_pool(image, boxes, 1.0, 4, 4)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@BOTH_LAYOUTS
def test_boxes_of_any_coordinates_are_answered(layout: Any) -> None:
    inf, nan = float("inf"), float("nan")
    values = [0.0, 3.5, -5.0, 1e9, 3e9, 1e30, -1e30, inf, -inf, nan]
    rows = [[0.0, a, b, c, d] for a in values for b in values for c in values for d in (4.0, inf)]
    boxes = torch.tensor(rows)
    image = torch.rand(1, 5, 9, 8).contiguous(memory_format=layout)
    output, gradient = forward_and_gradient(roi_pool, image, boxes, 3)
    assert output.isfinite().all()
    assert gradient.isfinite().all()
    assert not output[boxes.isnan().any(1)].any(), "a NaN coordinate empties the box"
    everywhere = roi_pool(image, torch.tensor([[0.0, -1e30, -1e30, 1e30, 1e30]]), 1)
    assert torch.equal(everywhere[0, :, 0, 0], image[0].amax((1, 2))), "the whole map in one bin"


def test_halves_round_away_from_zero() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    boxes = torch.tensor([[0, 0.5, 0.5, 1.5, 2.5], [0, 2.5, -0.5, 3.5, 0.5]])
    assert torch.equal(roi_pool(image, boxes, 2), torchvision.ops.roi_pool(image, boxes, 2))


@BOTH_LAYOUTS
def test_bits_do_not_depend_on_the_number_of_threads(layout: Any) -> None:
    image = torch.randn(2, 70, 30, 30).contiguous(memory_format=layout)
    boxes = random_boxes(100, 2, (30, 30), seed=7).float()
    answers = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        answers.append(forward_and_gradient(roi_pool, image, boxes, 7))
    torch.set_num_threads(2)
    for output, gradient in answers[1:]:
        assert torch.equal(output, answers[0][0]), "forward"
        assert torch.equal(gradient, answers[0][1]), "gradient"


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8)], ids=str)
def test_no_boxes_give_an_empty_answer_and_no_gradient(shape: Any) -> None:
    image = torch.randn(shape, requires_grad=True)
    output = roi_pool(image, torch.zeros(0, 5), 3)
    assert output.shape == (0, shape[1], 3, 3), f"got {list(output.shape)}"
    output.sum().backward()
    assert torch.equal(image.grad, torch.zeros(shape))


@pytest.mark.parametrize("index", [-1.0, 0.5, 2.0, float("nan")])
def test_an_image_index_outside_the_batch_is_refused(index: float) -> None:
    boxes = torch.tensor([[0.0, 0, 0, 4, 4], [index, 0, 0, 4, 4]])
    with pytest.raises(ArgumentError, match=r"boxes\[1, 0\]"):
        roi_pool(torch.randn(2, 3, 8, 8), boxes, 2)


def test_positions_outside_the_map_are_ignored_by_the_backward() -> None:
    argmax = torch.tensor([5, 64, -7, 2**31 - 1], dtype=torch.int32).view(1, 1, 2, 2)
    grad = torch.ones(1, 1, 2, 2)
    gradient = torch.ops.cvperf.roi_pool_backward(
        grad, torch.zeros(1, 5), argmax, 1.0, 2, 2, 1, 1, 8, 8
    )
    assert gradient.flatten().nonzero().tolist() == [[5]], f"{gradient.nonzero().tolist()}"


@BOTH_LAYOUTS
def test_opcheck_and_gradcheck_pass(layout: Any) -> None:
    image = torch.randn(2, 3, 9, 9, dtype=torch.float64).contiguous(memory_format=layout)
    image.requires_grad_()
    boxes = random_boxes(5, 2, (9, 9))
    torch.library.opcheck(torch.ops.cvperf.roi_pool.default, (image, boxes, 0.5, 3, 2))
    argmax = torch.ops.cvperf.roi_pool(image, boxes, 0.5, 3, 2)[1]
    grad = torch.randn(5, 3, 3, 2, dtype=torch.float64).contiguous(memory_format=layout)
    grad.requires_grad_()
    torch.library.opcheck(
        torch.ops.cvperf.roi_pool_backward.default,
        (grad, boxes, argmax, 0.5, 3, 2, 2, 3, 9, 9),
    )

    def pooled(x: Tensor) -> Tensor:
        return roi_pool(x, boxes, (2, 3))

    assert torch.autograd.gradcheck(pooled, (image,))
    assert torch.autograd.gradgradcheck(pooled, (image,))


def test_torch_compile_and_export_trace_the_op() -> None:
    class Pool(torch.nn.Module):
        def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
            return roi_pool(image * 2, boxes, 3).sum((2, 3))

    image, boxes = torch.randn(1, 4, 10, 10), random_boxes(5, 1, (10, 10)).float()
    expected = Pool()(image, boxes)
    compiled = torch.compile(Pool(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image, boxes), expected)
    dynamic = {"image": None, "boxes": {0: torch.export.Dim("boxes")}}
    program = torch.export.export(Pool(), (image, boxes), dynamic_shapes=dynamic)
    more = random_boxes(8, 1, (10, 10), seed=9).float()
    assert torch.equal(program.module()(image, more), Pool()(image, more))
