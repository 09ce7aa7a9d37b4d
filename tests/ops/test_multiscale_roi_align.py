"""RoI Align over a pyramid picks torchvision's level for each box and pools it as roi_align."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError
from cvperf.ops import multiscale_roi_align, roi_align

torchvision = pytest.importorskip("torchvision")

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
BOTH_LAYOUTS = pytest.mark.parametrize(
    "layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "channels_last"]
)
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-10,
}


def pyramid(
    levels: int,
    images: int = 2,
    channels: int = 19,
    side: int = 48,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = CONTIGUOUS,
) -> list[Tensor]:
    sides = [-(-side // 2**level) for level in range(levels)]
    maps = [torch.randn(images, channels, each, each + 3).to(dtype) for each in sides]
    return [each.contiguous(memory_format=layout) for each in maps]


def scales_of(levels: int, first: float = 0.25) -> list[float]:
    return [first / 2**level for level in range(levels)]


def random_boxes(count: int, images: int, extent: float, seed: int = 0) -> Tensor:
    """[count, 5] in float64: sides from a thousandth of the image to all of it, log-uniform."""
    g = torch.Generator().manual_seed(seed)
    corner = (torch.rand(count, 2, generator=g, dtype=torch.float64) * 1.2 - 0.2) * extent
    sides = extent * 1000 ** -torch.rand(count, 2, generator=g, dtype=torch.float64)
    image = torch.randint(0, images, (count, 1), generator=g).double().sort(0).values
    return torch.cat([image, corner, corner + sides], 1)


def torchvision_pool(
    features: list[Tensor],
    boxes: Tensor,
    size: Any,
    scales: list[float],
    ratio: int,
    **canonical: int,
) -> Tensor:
    """MultiScaleRoIAlign; boxes must come in the order of their images, as its lists do."""
    names = [str(level) for level in range(len(features))]
    pool = torchvision.ops.MultiScaleRoIAlign(names, size, ratio)
    pool.scales = scales
    first, last = (round(-torch.tensor(scales[i]).log2().item()) for i in (0, -1))
    pool.map_levels = torchvision.ops.poolers.initLevelMapper(first, last)
    lists = [boxes[boxes[:, 0] == n, 1:] for n in range(features[0].shape[0])]
    return pool(dict(zip(names, features, strict=True)), lists, [])


def relative_error(got: Tensor, expected: Tensor) -> float:
    if got.numel() == 0:
        return 0.0
    largest = expected.double().abs().max().clamp(min=1e-30)
    return float((got.double() - expected.double()).abs().max() / largest)


def forward_and_gradients(function: Any, features: list[Tensor], *args: Any) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in features]
    output = function(leaves, *args)
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(1))
    output.backward(weights.to(output.dtype))
    return [output.detach(), *(torch.zeros(0) if e.grad is None else e.grad for e in leaves)]


@BOTH_LAYOUTS
@pytest.mark.parametrize("levels", [1, 2, 4, 5])
@pytest.mark.parametrize(
    ("size", "ratio"), [((7, 7), 2), ((3, 5), -1), ((14, 14), 2), ((1, 1), 3)], ids=str
)
def test_forward_and_gradients_agree_with_torchvision_in_float64(
    size: Any, ratio: int, levels: int, layout: Any, isa: str
) -> None:
    features = pyramid(levels, dtype=torch.float64, layout=layout)
    boxes = random_boxes(60, 2, 192.0)
    args = (boxes, size, scales_of(levels), ratio)
    got = forward_and_gradients(multiscale_roi_align, features, *args)
    plain = [each.contiguous() for each in features]
    expected = forward_and_gradients(torchvision_pool, plain, *args)
    for i, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        error = relative_error(mine, theirs)
        assert error <= 1e-12, f"{'output' if i == 0 else f'gradient {i - 1}'}: {error:.2e}"
        assert mine.is_contiguous(memory_format=layout), f"strides {mine.stride()}"


@BOTH_LAYOUTS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("ratio", [-1, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_kernel_agrees_with_the_reference_backend(
    dtype: torch.dtype, ratio: int, aligned: bool, layout: Any, isa: str
) -> None:
    features = pyramid(3, channels=70, dtype=dtype, layout=layout)
    boxes = random_boxes(50, 2, 192.0, seed=3).float()

    def pool(features: list[Tensor]) -> Tensor:
        return multiscale_roi_align(
            features, boxes, (7, 6), scales_of(3), ratio, aligned=aligned, canonical_scale=100
        )

    got = forward_and_gradients(pool, features)
    with prefer("reference"):
        expected = forward_and_gradients(pool, features)
    for mine, theirs in zip(got, expected, strict=True):
        error = relative_error(mine, theirs)
        assert error <= TOLERANCE[dtype], f"{list(mine.shape)} on {isa}: {error:.2e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("canonical", [(224, 4), (160, 3), (100, 5)], ids=str)
def test_levels_are_those_of_torchvision_at_the_very_edges(
    dtype: torch.dtype, canonical: tuple[int, int]
) -> None:
    scale, level = canonical
    # Sides around every edge between two levels, an ulp at a time, and many in between.
    edges = scale * 2.0 ** torch.arange(-4, 5)
    steps = torch.arange(-40, 41) * 2.0**-23
    sides = torch.cat([(edges[:, None] * (1 + steps)).flatten(), torch.rand(2000) * 2000])
    corner = torch.rand(len(sides), 2) * 50 * (torch.arange(len(sides)) % 2)[:, None]
    other = sides * (torch.rand(len(sides)) * (torch.arange(len(sides)) % 3 == 0) + 1)
    boxes = torch.cat([corner, corner + torch.stack([sides, other], 1)], 1).to(dtype)
    mapper = torchvision.ops.poolers.LevelMapper(2, 6, scale, level)
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
    got = pyramid_levels(rois, scales_of(5), scale, level)
    assert torch.equal(got.long(), mapper([boxes])), "a level differs"
    assert len(got.unique()) == 5, "every level is met"


def test_each_box_is_pooled_from_its_level_in_place() -> None:
    features = pyramid(4)
    boxes = random_boxes(40, 2, 192.0, seed=2).float()[torch.randperm(40)]
    levels = pyramid_levels(boxes, scales_of(4), 224, 4)
    got = multiscale_roi_align(features, boxes, 5, scales_of(4), 2, aligned=True)
    for k, level in enumerate(levels.tolist()):
        alone = roi_align(features[level], boxes[k : k + 1], 5, 0.25 / 2**level, 2, True)
        assert torch.equal(got[k : k + 1], alone), f"box {k} of level {level}"


def test_a_list_of_boxes_equals_the_same_boxes_with_image_indices() -> None:
    boxes = random_boxes(30, 2, 192.0).float()
    lists = [boxes[boxes[:, 0] == n, 1:] for n in range(2)]
    features = pyramid(3)
    assert torch.equal(
        multiscale_roi_align(features, lists, 7, scales_of(3)),
        multiscale_roi_align(features, boxes, 7, scales_of(3)),
    )


@BOTH_LAYOUTS
def test_a_box_of_no_level_is_zero_as_in_torchvision(layout: Any) -> None:
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor(
        [
            [0, 10.0, 10, 5, 60],  # negative area
            [0, nan, 0, 50, 50],
            [1, 60, 60, 10, 10],  # both sides reversed: a positive area
            [1, 5, 5, 5, 5],  # no area: the finest level
            [1, 0, 0, inf, 9],  # endless: the coarsest, on which torchvision reads out of bounds
        ]
    )
    features = pyramid(3, layout=layout)
    got = forward_and_gradients(multiscale_roi_align, features, boxes, 3, scales_of(3), 2)
    assert not got[0][:2].any(), "no level, no sample"
    assert got[0][2:4].any(), "these two have one"
    plain = [each.contiguous() for each in features]
    expected = torchvision_pool(plain, boxes[:4], (3, 3), scales_of(3), 2)
    assert relative_error(got[0][:4], expected) < 1e-5
    assert all(each.isfinite().all() for each in got)


@BOTH_LAYOUTS
@pytest.mark.parametrize("shape", [(2, 19, 48), (0, 19, 48), (2, 0, 48), (1, 4, 0)], ids=str)
def test_empty_inputs_give_empty_or_zero_answers(shape: Any, layout: Any) -> None:
    images, channels, side = shape
    features = pyramid(3, images, channels, side, layout=layout)
    for boxes in (torch.zeros(0, 5), []):
        output, *grads = forward_and_gradients(
            multiscale_roi_align, features, boxes, (2, 3), scales_of(3)
        )
        assert output.shape == (0, channels, 2, 3)
        for each, grad in zip(features, grads, strict=True):
            assert torch.equal(grad, torch.zeros_like(each)), "no box: no gradient"


@BOTH_LAYOUTS
def test_bits_do_not_depend_on_the_number_of_threads(layout: Any) -> None:
    features = pyramid(3, channels=70, layout=layout)
    boxes = random_boxes(200, 2, 192.0, seed=7).float()
    answers = []
    for threads in (1, 2, 3, 7, 2):
        torch.set_num_threads(threads)
        args = (boxes, 7, scales_of(3), 2)
        answers.append(forward_and_gradients(multiscale_roi_align, features, *args))
    torch.set_num_threads(2)
    for answer in answers[1:]:
        for mine, first in zip(answer, answers[0], strict=True):
            assert torch.equal(mine, first)


def test_levels_of_mixed_layouts_follow_the_channels_last_one() -> None:
    features = pyramid(3)
    features[1] = features[1].contiguous(memory_format=CHANNELS_LAST)
    features[2] = features[2].permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    boxes = random_boxes(30, 2, 192.0).float()
    got = forward_and_gradients(multiscale_roi_align, features, boxes, 4, scales_of(3), 2)
    plain = [each.contiguous() for each in features]
    expected = forward_and_gradients(multiscale_roi_align, plain, boxes, 4, scales_of(3), 2)
    assert got[0].is_contiguous(memory_format=CHANNELS_LAST)
    for mine, theirs in zip(got, expected, strict=True):
        assert relative_error(mine, theirs) < 1e-6


def test_only_the_levels_that_ask_for_it_get_a_gradient() -> None:
    features = pyramid(3)
    features[1].requires_grad_()
    multiscale_roi_align(
        features, random_boxes(30, 2, 192.0).float(), 3, scales_of(3)
    ).sum().backward()
    assert features[0].grad is None
    assert features[1].grad is not None


MAPS = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)]
BOXES = torch.zeros(1, 5)
BAD_CALLS = {
    "no features": (lambda: multiscale_roi_align([], BOXES, 2, []), "features is empty"),
    "rank 3": (lambda: multiscale_roi_align([MAPS[0][0]], BOXES, 2, [1]), r"features\[0\]"),
    "integer level": (
        lambda: multiscale_roi_align([MAPS[0], MAPS[1].int()], BOXES, 2, [0.5, 0.25]),
        r"features\[1\]",
    ),
    "two dtypes": (
        lambda: multiscale_roi_align([MAPS[0], MAPS[1].double()], BOXES, 2, [0.5, 0.25]),
        r"features\[1\] and features\[0\] must have the same dtype",
    ),
    "two channel counts": (
        lambda: multiscale_roi_align([MAPS[0], MAPS[1][:, :2]], BOXES, 2, [0.5, 0.25]),
        "share images and channels",
    ),
    "too few scales": (lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.5]), "scales"),
    "scales that do not halve": (
        lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.5, 0.3]),
        "half of the one before",
    ),
    "scales of no octave": (
        lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.3, 0.15]),
        "powers of two",
    ),
    "negative scale": (lambda: multiscale_roi_align(MAPS, BOXES, 2, [-0.5, -0.25]), "positive"),
    "boxes of width 4": (
        lambda: multiscale_roi_align(MAPS, BOXES[:, :4], 2, [0.5, 0.25]),
        "boxes",
    ),
    "image out of range": (
        lambda: multiscale_roi_align(MAPS, BOXES + 1, 2, [0.5, 0.25]),
        r"boxes\[0, 0\]",
    ),
    "no bins": (lambda: multiscale_roi_align(MAPS, BOXES, 0, [0.5, 0.25]), "output_size"),
    "no canonical size": (
        lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.5, 0.25], canonical_scale=0),
        "canonical_scale",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_arguments_are_named(name: str) -> None:
    call, message = BAD_CALLS[name]
    with pytest.raises(ArgumentError, match=message):
        call()


def test_arguments_of_the_wrong_type_raise_type_error() -> None:
    calls = [
        lambda: multiscale_roi_align(MAPS[0], BOXES, 2, [1]),
        lambda: multiscale_roi_align([1], BOXES, 2, [1]),
        lambda: multiscale_roi_align(MAPS, BOXES, 2, 0.5),
        lambda: multiscale_roi_align(MAPS, BOXES, 2, ["a", "b"]),
        lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.5, 0.25], 1.5),
        lambda: multiscale_roi_align(MAPS, BOXES, 2, [0.5, 0.25], canonical_level=4.5),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="must be"):
            call()


def test_the_raw_op_refuses_levels_that_differ() -> None:
    run = torch.ops.cvperf.multiscale_roi_align
    with pytest.raises(ArgumentError, match="features must share"):
        run([MAPS[0], MAPS[1][:, :2]], BOXES, [0.5, 0.25], 2, 2, 2, False, 224.0, 4)
    backward = torch.ops.cvperf.multiscale_roi_align_backward
    with pytest.raises(ArgumentError, match="grad must be"):
        backward(
            *(torch.zeros(2, 3, 2, 2), BOXES, [0.5, 0.25], 2, 2, 1, 3, [8, 4], [8, 4], 2, False),
            *(224.0, 4),
        )


@BOTH_LAYOUTS
def test_opcheck_passes(layout: Any) -> None:
    features = [each.requires_grad_() for each in pyramid(2, channels=6, side=9, layout=layout)]
    boxes = random_boxes(6, 2, 600.0).float()
    settings = (2, True, 224.0, 4)
    torch.library.opcheck(
        torch.ops.cvperf.multiscale_roi_align.default,
        (features, boxes, scales_of(2, 0.125), 3, 2, *settings),
    )
    grad = torch.randn(6, 6, 3, 2).contiguous(memory_format=layout).requires_grad_()
    torch.library.opcheck(
        torch.ops.cvperf.multiscale_roi_align_backward.default,
        (grad, boxes, scales_of(2, 0.125), 3, 2, 2, 6, [9, 5], [12, 8], *settings),
    )


@BOTH_LAYOUTS
def test_gradients_pass_gradcheck_in_float64(layout: Any) -> None:
    features = pyramid(2, channels=3, side=6, dtype=torch.float64, layout=layout)
    leaves = [each.requires_grad_() for each in features]
    boxes = random_boxes(5, 2, 400.0, seed=2)
    boxes[0, 1:] = torch.tensor([-10.0, 5.0, 300.0, 280.0])

    def pooled(*leaves: Tensor) -> Tensor:
        scales = scales_of(2, 1 / 64)
        return multiscale_roi_align(leaves, boxes, (2, 3), scales, 2, canonical_scale=8)

    assert len(pyramid_levels(boxes, scales_of(2, 1 / 64), 8, 4).unique()) == 2
    assert torch.autograd.gradcheck(pooled, leaves)
    assert torch.autograd.gradgradcheck(pooled, leaves)


class Head(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        fine = self.conv(image).relu()
        coarse = torch.nn.functional.avg_pool2d(fine, 2)
        return multiscale_roi_align([fine, coarse], boxes, 4, [1 / 8, 1 / 16], 2).flatten(1).sum(1)


def test_torch_compile_traces_the_op_and_its_gradient_whole() -> None:
    head, image, boxes = Head(), torch.randn(1, 3, 16, 16), random_boxes(9, 1, 400.0).float()
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
    head, image = Head(), torch.randn(1, 3, 16, 16)
    boxes = random_boxes(5, 1, 400.0).float()
    dynamic = {"image": None, "boxes": {0: torch.export.Dim("boxes")}}
    program = torch.export.export(head, (image, boxes), dynamic_shapes=dynamic)
    more = random_boxes(9, 1, 400.0, seed=4).float()
    assert torch.allclose(program.module()(image, more), head(image, more), atol=1e-5)
