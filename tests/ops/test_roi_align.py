"""RoI Align answers as torchvision does, to float64 accuracy, and is a torch citizen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError
from cvperf.ops import roi_align

torchvision = pytest.importorskip("torchvision")

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
BOTH_LAYOUTS = pytest.mark.parametrize(
    "layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "channels_last"]
)
# Largest error over the largest value: one rounding of the output for half types.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-10,
}


def random_boxes(count: int, images: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Boxes of up to the whole map, some of them partly or wholly outside, as [K, 5] float64."""
    g = torch.Generator().manual_seed(seed)
    height, width = size
    extent = torch.tensor([width, height], dtype=torch.float64)
    corner = (torch.rand(count, 2, generator=g, dtype=torch.float64) * 1.6 - 0.5) * extent
    sides = torch.rand(count, 2, generator=g, dtype=torch.float64) ** 2 * extent
    image = torch.randint(0, images, (count, 1), generator=g).double()
    return torch.cat([image, corner, corner + sides], 1)


def relative_error(got: Tensor, expected: Tensor) -> float:
    if got.numel() == 0:
        return 0.0
    largest = expected.double().abs().max().clamp(min=1e-30)
    return float((got.double() - expected.double()).abs().max() / largest)


def forward_and_gradient(function: Any, image: Tensor, boxes: Tensor, *args: Any) -> list[Tensor]:
    image = image.detach().requires_grad_()
    output = function(image, boxes, *args)
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(1))
    output.backward(weights.to(output.dtype))
    return [output.detach(), image.grad]


SHAPES = [  # N, C, H, W, boxes, bins
    (1, 256, 20, 30, 9, (7, 7)),
    (2, 37, 25, 19, 30, (7, 7)),
    (3, 3, 40, 41, 12, (14, 14)),
    (1, 1, 8, 8, 5, (1, 1)),
    (2, 67, 5, 4, 11, (3, 5)),
    (1, 130, 1, 33, 6, (2, 7)),
    (4, 16, 50, 2, 20, (5, 2)),
]


@BOTH_LAYOUTS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "ratio", "aligned", "scale"),
    [
        (torch.float64, 2, True, 0.25),
        (torch.float64, -1, False, 0.1),
        (torch.float32, 2, True, 0.25),
        (torch.float32, -1, False, 0.1),
        (torch.float32, 0, True, 1.0),
        (torch.float32, 3, False, 1.0),
        (torch.bfloat16, 2, True, 0.25),
        (torch.float16, -1, False, 1.0),
    ],
    ids=str,
)
def test_forward_and_gradient_agree_with_torchvision_in_float64(
    shape: Any, dtype: torch.dtype, ratio: int, aligned: bool, scale: float, layout: Any, isa: str
) -> None:
    n, c, h, w, count, bins = shape
    image = torch.randn(n, c, h, w).to(dtype).contiguous(memory_format=layout)
    boxes = random_boxes(count, n, (h, w))
    boxes[:, 1:] /= scale
    boxes = boxes if dtype == torch.float64 else boxes.float()
    args = (bins, scale, ratio, aligned)
    got = forward_and_gradient(roi_align, image, boxes, *args)
    wide = image.double().contiguous()
    expected = forward_and_gradient(torchvision.ops.roi_align, wide, boxes.double(), *args)
    for name, mine, theirs in zip(("forward", "gradient"), got, expected, strict=True):
        error = relative_error(mine, theirs)
        assert error <= TOLERANCE[dtype], f"{name} on {isa}: relative error {error:.2e}"
        assert mine.dtype == dtype, f"{name} is {mine.dtype}"
        assert mine.is_contiguous(memory_format=layout), f"{name} has strides {mine.stride()}"


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("ratio", [-1, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_kernel_agrees_with_the_reference_backend(
    dtype: torch.dtype, ratio: int, aligned: bool, layout: Any
) -> None:
    image = torch.randn(2, 21, 17, 23).to(dtype).contiguous(memory_format=layout)
    boxes = random_boxes(40, 2, (17, 23), seed=3).float()
    args = ((7, 6), 1.0, ratio, aligned)
    got = forward_and_gradient(roi_align, image, boxes, *args)
    with prefer("reference"):
        expected = forward_and_gradient(roi_align, image, boxes, *args)
    for name, mine, theirs in zip(("forward", "gradient"), got, expected, strict=True):
        error = relative_error(mine, theirs)
        assert error <= TOLERANCE[dtype], f"{name}: relative error {error:.2e}"


def test_the_number_of_adaptive_samples_is_counted_in_float32_as_torchvision_does() -> None:
    # Sizes that are whole multiples of the bins but for rounding: ceil() falls on either side.
    steps = torch.arange(1, 400, dtype=torch.float32)
    start = torch.rand(399) * 3
    boxes = torch.stack([steps * 0, start, start, start + 0.7 * steps, start + 0.7 * steps], 1)
    image = torch.randn(1, 4, 48, 48)
    got = roi_align(image, boxes, 7, 0.1, -1, True)
    expected = torchvision.ops.roi_align(image, boxes, 7, 0.1, -1, True)
    worst = (got - expected).abs().flatten(1).max(1).values
    assert worst.max() < 1e-4, f"box {boxes[worst.argmax()].tolist()} differs by {worst.max()}"


def test_a_list_of_boxes_equals_the_same_boxes_with_image_indices() -> None:
    image = torch.randn(3, 8, 16, 16)
    parts = [random_boxes(k, 1, (16, 16), seed=k)[:, 1:].float() for k in (4, 0, 7)]
    index = torch.tensor([0.0] * 4 + [2.0] * 7)[:, None]
    rows = torch.cat([index, torch.cat(parts)], 1)
    assert torch.equal(roi_align(image, parts, 5), roi_align(image, rows, 5))


@BOTH_LAYOUTS
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (0, 4, 8, 8), (2, 0, 8, 8), (2, 4, 0, 8)], ids=str)
def test_empty_inputs_give_empty_or_zero_answers(shape: Any, layout: Any) -> None:
    image = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    boxes = torch.zeros(0 if shape[2] and shape[0] == 1 else min(shape[0], 1), 5)
    output = roi_align(image, boxes, 3)
    assert output.shape == (len(boxes), shape[1], 3, 3), f"got {list(output.shape)}"
    assert not output.any(), "an empty map or no box has nothing to sample"
    output.sum().backward()
    assert torch.equal(image.grad, torch.zeros(shape)), "no box: no gradient"


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [True, False])
@BOTH_LAYOUTS
def test_boxes_of_any_coordinates_end_in_finite_answers(
    ratio: int, aligned: bool, layout: Any, isa: str
) -> None:
    inf, nan = float("inf"), float("nan")
    values = [0.0, -0.0, 3.5, -5.0, 1e5, -1e5, 1e9, 1e30, -1e30, 3e38, inf, -inf, nan]
    rows = [
        [0.0, a, b, c, d]
        for a in values
        for b in (1.0, -1e30, nan)
        for c in values
        for d in (4.0, 1e30)
    ]
    image = torch.rand(1, 9, 12, 14).contiguous(memory_format=layout)
    boxes = torch.tensor(rows)
    output, gradient = forward_and_gradient(roi_align, image, boxes, 3, 1.0, ratio, aligned)
    assert output.isfinite().all(), "a sample at no position adds nothing"
    assert gradient.isfinite().all(), "a sample at no position gets no gradient"
    assert output.max() <= image.max() + 1e-5, "a mean of pixels, never above the largest"
    not_numbers = boxes.isnan().any(1)
    if ratio > 0:
        sideways = output[not_numbers].flatten(1)
        assert not sideways.any(), "a NaN coordinate leaves no sample inside the map"


def test_a_huge_adaptive_box_is_as_good_as_the_same_box_in_float64() -> None:
    image = torch.rand(1, 8, 32, 32)
    boxes = torch.tensor([[0, -40000.0, -1.0, 40000.0, 31.0], [0, 0.0, -900.0, 20.0, 70000.0]])
    got = roi_align(image, boxes, (1, 1))
    expected = torchvision.ops.roi_align(image.double(), boxes.double(), (1, 1))
    assert relative_error(got, expected) < 1e-5, f"{relative_error(got, expected):.2e}"


def test_reversed_boxes_with_a_fixed_ratio_are_sampled_backwards_as_in_torchvision() -> None:
    boxes = random_boxes(50, 1, (20, 20), seed=5)
    boxes = boxes[:, [0, 3, 4, 1, 2]]
    image = torch.randn(1, 5, 20, 20, dtype=torch.float64)
    got = forward_and_gradient(roi_align, image, boxes, 4, 1.0, 2, True)
    expected = forward_and_gradient(torchvision.ops.roi_align, image, boxes, 4, 1.0, 2, True)
    for mine, theirs in zip(got, expected, strict=True):
        assert relative_error(mine, theirs) < 1e-12, f"{relative_error(mine, theirs):.2e}"


@BOTH_LAYOUTS
def test_bits_do_not_depend_on_the_number_of_threads(layout: Any) -> None:
    image = torch.randn(2, 70, 40, 40).contiguous(memory_format=layout)
    boxes = random_boxes(200, 2, (40, 40), seed=7).float()
    answers = []
    for threads in (1, 2, 3, 7, 2):
        torch.set_num_threads(threads)
        answers.append(forward_and_gradient(roi_align, image, boxes, 7, 1.0, 2, True))
    torch.set_num_threads(2)
    for output, gradient in answers[1:]:
        assert torch.equal(output, answers[0][0]), "forward"
        assert torch.equal(gradient, answers[0][1]), "gradient"


@BOTH_LAYOUTS
@pytest.mark.parametrize("channels", [256, 336, 249])
def test_a_large_output_has_the_bits_of_small_ones(channels: int, layout: Any, isa: str) -> None:
    # From 16 MB on it is written past the caches; 336 channels by vectors in blocks of 16, 4 and 1.
    image = torch.randn(1, channels, 20, 20).contiguous(memory_format=layout)
    boxes = random_boxes(360, 1, (20, 20), seed=8).float()
    got = roi_align(image, boxes, 7, 1.0, 2, True)
    assert got.nbytes > 16 << 20
    parts = [roi_align(image, part, 7, 1.0, 2, True) for part in boxes.split(90)]
    assert torch.equal(got, torch.cat(parts))


def test_other_strides_are_served() -> None:
    image = torch.randn(30, 2, 20, 9).permute(1, 3, 2, 0)
    boxes = random_boxes(10, 2, (20, 30)).float()
    sliced = torch.cat([boxes, boxes], 1)[:, :5]
    got = roi_align(image, sliced, 7)
    assert torch.equal(got, roi_align(image.contiguous(), boxes, 7))


def test_a_gradient_in_any_layout_is_taken() -> None:
    image = torch.randn(1, 12, 15, 15)
    boxes = random_boxes(6, 1, (15, 15)).float()
    args = (boxes, 1.0, 3, 3, 1, 12, 15, 15, 2, True)
    grad = torch.ones(6, 12, 3, 3)
    expected = torch.ops.torchvision._roi_align_backward(grad, *args)
    for layout in (CONTIGUOUS, CHANNELS_LAST):
        leaf = image.clone(memory_format=layout).requires_grad_()
        roi_align(leaf, boxes, 3, 1.0, 2, True).sum().backward()  # an expanded gradient
        error = relative_error(leaf.grad, expected)
        assert error < 1e-5, f"{layout}: relative error {error:.2e}"
    flipped = torch.ops.cvperf.roi_align_backward(grad.permute(0, 1, 3, 2), *args)
    assert relative_error(flipped, expected) < 1e-5


BAD_CALLS = {
    "input of rank 3": (lambda: roi_align(torch.zeros(3, 4, 4), torch.zeros(1, 5), 2), "input"),
    "integer input": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4).int(), torch.zeros(1, 5), 2),
        "input",
    ),
    "boxes of width 4": (lambda: roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4), 2), "boxes"),
    "integer boxes": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5).long(), 2),
        "boxes",
    ),
    "too many lists": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4), [torch.zeros(1, 4)] * 2, 2),
        "boxes",
    ),
    "list of width 5": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4), [torch.zeros(1, 5)], 2),
        r"boxes\[0\]",
    ),
    "no bins": (lambda: roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 0), "output_size"),
    "NaN scale": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 2, float("nan")),
        "spatial_scale",
    ),
    "huge ratio": (
        lambda: roi_align(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 2, 1.0, 10**6),
        "sampling_ratio",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_arguments_are_named(name: str) -> None:
    call, argument = BAD_CALLS[name]
    with pytest.raises(ArgumentError, match=argument):
        call()


def test_arguments_of_the_wrong_type_raise_type_error() -> None:
    image, boxes = torch.zeros(1, 3, 4, 4), torch.zeros(1, 5)
    calls = [
        lambda: roi_align([1], boxes, 2),
        lambda: roi_align(image, 3, 2),
        lambda: roi_align(image, boxes, 2.5),
        lambda: roi_align(image, boxes, (2, 2, 2)),
        lambda: roi_align(image, boxes, 2, "a"),
        lambda: roi_align(image, boxes, 2, 1.0, 1.5),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="must be"):
            call()


@pytest.mark.parametrize("index", [-1.0, -0.5, 0.5, 2.0, 1e20, float("nan"), float("inf")])
def test_an_image_index_outside_the_batch_is_refused_before_native_code(index: float) -> None:
    image = torch.randn(2, 3, 8, 8, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 0, 4, 4], [index, 0, 0, 4, 4]])
    with pytest.raises(ValueError, match=r"boxes\[1, 0\]"):
        roi_align(image, boxes, 2)
    with pytest.raises(RuntimeError, match=r"boxes\[1, 0\]"):
        torch.ops.cvperf.roi_align_backward(
            torch.zeros(2, 3, 2, 2), boxes, 1.0, 2, 2, 2, 3, 8, 8, 2, False
        )


def test_a_gradient_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match="grad must be"):
        torch.ops.cvperf.roi_align_backward(
            torch.zeros(1, 3, 2, 2), torch.zeros(2, 5), 1.0, 2, 2, 1, 3, 8, 8, 2, False
        )


@BOTH_LAYOUTS
def test_opcheck_passes(layout: Any) -> None:
    image = torch.randn(2, 6, 9, 9).contiguous(memory_format=layout).requires_grad_()
    boxes = random_boxes(5, 2, (9, 9)).float()
    torch.library.opcheck(torch.ops.cvperf.roi_align.default, (image, boxes, 0.5, 3, 2, 2, True))
    grad = torch.randn(5, 6, 3, 2).contiguous(memory_format=layout).requires_grad_()
    torch.library.opcheck(
        torch.ops.cvperf.roi_align_backward.default,
        (grad, boxes, 0.5, 3, 2, 2, 6, 9, 9, 2, True),
    )


@BOTH_LAYOUTS
@pytest.mark.parametrize("ratio", [-1, 2])
def test_gradients_pass_gradcheck_in_float64(ratio: int, layout: Any) -> None:
    image = torch.randn(2, 3, 6, 7, dtype=torch.float64).contiguous(memory_format=layout)
    image.requires_grad_()
    boxes = random_boxes(4, 2, (6, 7), seed=2)

    def pooled(x: Tensor) -> Tensor:
        return roi_align(x, boxes, (2, 3), 1.0, ratio, True)

    assert torch.autograd.gradcheck(pooled, (image,))
    assert torch.autograd.gradgradcheck(pooled, (image,))


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        return roi_align(self.conv(image).relu(), boxes, 4, 1.0, 2, True).flatten(1).sum(1)


def test_torch_compile_traces_the_op_and_its_gradient_whole() -> None:
    head, image, boxes = Head(), torch.randn(1, 3, 12, 12), random_boxes(5, 1, (12, 12)).float()
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    head(image, boxes).sum().backward()
    expected = head.conv.weight.grad.clone()
    head.zero_grad()
    output = compiled(image, boxes)
    output.sum().backward()
    assert torch.allclose(output, head(image, boxes), atol=1e-5)
    error = relative_error(head.conv.weight.grad, expected)
    assert error < 1e-5, f"gradient differs by {error:.2e}"


def test_torch_export_takes_any_number_of_boxes() -> None:
    head, image = Head(), torch.randn(1, 3, 12, 12)
    boxes = random_boxes(5, 1, (12, 12)).float()
    dynamic = {"image": None, "boxes": {0: torch.export.Dim("boxes")}}
    program = torch.export.export(head, (image, boxes), dynamic_shapes=dynamic)
    more = random_boxes(9, 1, (12, 12), seed=4).float()
    assert torch.allclose(program.module()(image, more), head(image, more), atol=1e-5)
