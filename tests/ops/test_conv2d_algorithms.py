"""Winograd's algorithm and packed weights answer as the direct sum does, whatever the shape."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf import _C, ops
from cvperf.backends.cpu.conv2d import algorithm_for
from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError

ERRORS = {"direct": 1e-6, "winograd2": 2e-6, "winograd4": 6e-6}
"""Largest error against float64 over the largest output, with sums of up to 1,200 products."""


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("algorithm", ERRORS)
def test_an_algorithm_agrees_with_float64(
    algorithm: str, layout: torch.memory_format, isa: str
) -> None:
    """Maps that no tile divides, borders of every width, few and many channels, groups."""
    choose = random.Random(3)
    for _ in range(40):
        groups = choose.choice([1, 1, 1, 2, 3])
        channels = groups * choose.choice([2, 3, 7, 16, 33, 130])
        filters = groups * choose.choice([1, 5, 16, 24, 49, 70, 112])
        size = choose.randint(1, 19), choose.randint(1, 23)
        padding = choose.randint(0, 3), choose.randint(1, 3)
        if size[0] + 2 * padding[0] < 3:
            continue
        image = torch.randn(choose.choice([1, 2, 3]), channels, *size)
        weight, bias = torch.randn(filters, channels // groups, 3, 3), torch.randn(filters)
        image, weight = (
            image.contiguous(memory_format=layout),
            weight.contiguous(memory_format=layout),
        )
        geometry = ((1, 1), padding, (1, 1), groups)
        expected = F.conv2d(image.double(), weight.double(), bias.double(), *geometry)
        residual = torch.randn(expected.shape)
        got = torch.ops.cvperf.conv2d(
            image, weight, bias, *geometry, "relu", residual, algorithm=algorithm
        )
        worst = error(got, torch.relu(expected + residual.double()))
        assert worst <= ERRORS[algorithm], f"{worst}: {image.shape}, {weight.shape}, {geometry}"


def test_an_algorithm_has_the_same_bits_whatever_the_number_of_threads(isa: str) -> None:
    image, weight = channels_last(2, 70, 21, 33), torch.randn(90, 70, 3, 3)
    before = torch.get_num_threads()
    try:
        for algorithm in ERRORS:
            answers = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                answers.append(
                    torch.ops.cvperf.conv2d(
                        image,
                        weight,
                        None,
                        (1, 1),
                        (1, 1),
                        (1, 1),
                        1,
                        None,
                        None,
                        algorithm=algorithm,
                    )
                )
            assert torch.equal(answers[0], answers[1]), algorithm
            assert torch.equal(answers[0], answers[2]), algorithm
    finally:
        torch.set_num_threads(before)


def test_large_layers_in_several_chunks_agree_with_float64(isa: str) -> None:
    image, weight = channels_last(3, 64, 100, 90), torch.randn(72, 64, 3, 3)
    expected = F.conv2d(image.double(), weight.double(), padding=1)
    for layout in (image, image.contiguous()):
        assert error(ops.conv2d(layout, weight, padding=1), expected) <= ERRORS["winograd4"]


def test_nchw_bfloat16_has_the_bits_of_channels_last(isa: str) -> None:
    """Where the processor multiplies bfloat16, the image is turned for it."""
    image, weight = torch.randn(3, 37, 19, 23).bfloat16(), torch.randn(45, 37, 3, 3).bfloat16()
    residual = torch.randn(3, 45, 10, 12).bfloat16()
    answers = [
        ops.conv2d(
            image.contiguous(memory_format=layout),
            weight,
            stride=2,
            padding=1,
            residual=residual,
            activation="silu",
        )
        for layout in (torch.channels_last, torch.contiguous_format)
    ]
    assert answers[1].is_contiguous()
    if isa == "avx512_bf16":
        assert torch.equal(*answers)
    torch.testing.assert_close(*answers, rtol=2e-2, atol=2e-2)


def test_winograd_says_what_it_does_not_take() -> None:
    image, weight = channels_last(1, 16, 8, 8), torch.randn(16, 16, 3, 3)
    for stride, dilation, values in [(2, 1, image), (1, 2, image), (1, 1, image.double())]:
        geometry = ((stride,) * 2, (1, 1), (dilation,) * 2, 1)
        with pytest.raises(ValueError, match=r"3x3 kernels of stride 1"):
            torch.ops.cvperf.conv2d(
                values,
                weight.to(values.dtype),
                None,
                *geometry,
                None,
                None,
                algorithm="winograd4",
            )


def test_precise_leaves_the_larger_tile_out() -> None:
    weight = torch.randn(256, 256, 3, 3)
    layer = ((8, 256, 56, 56), weight, (1, 1), (1, 1), (1, 1), 1)
    assert algorithm_for(*layer, "automatic") == "winograd4"
    assert algorithm_for(*layer, "precise") != "winograd4"
    image = channels_last(1, 64, 28, 28)
    weight = torch.randn(64, 64, 3, 3)
    expected = F.conv2d(image.double(), weight.double(), padding=1)
    rough = error(ops.conv2d(image, weight, padding=1), expected)
    assert error(ops.conv2d(image, weight, padding=1, precise=True), expected) < rough


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_packed_weight_gives_the_bits_of_the_weight(dtype: torch.dtype, isa: str) -> None:
    geometries: list[tuple[int, int, dict[str, Any]]] = [
        (1, 3, {"padding": 1}),
        (1, 3, {"padding": 2, "dilation": 2, "stride": 2}),
        (1, 1, {}),
        (3, 3, {"padding": 1, "stride": (1, 2)}),
        (24, 3, {"padding": 1}),
        (1, 5, {"padding": (0, 2)}),
    ]
    for groups, kernel, geometry in geometries:
        for channels in (24, 27) if groups < 24 else (24,):
            image = channels_last(2, channels, 9, 11).to(dtype)
            weight = torch.randn(48, channels // groups, kernel, kernel).to(dtype)
            bias = torch.randn(48).to(dtype)
            packed = ops.pack_conv2d(weight, groups)
            step, pad, dilate = (
                geometry.get(name, default)
                for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
            )
            numbers = [
                each if isinstance(each, tuple) else (each,) * 2 for each in (step, pad, dilate)
            ]
            algorithm = algorithm_for(image.shape, packed.weight, *numbers, groups, "automatic")
            expected = torch.ops.cvperf.conv2d(
                image, packed.weight, bias, *numbers, groups, "silu", None, algorithm=algorithm
            )
            for _ in range(2):  # the second call skips the checks
                got = ops.conv2d(image, packed, bias, groups=groups, activation="silu", **geometry)
                assert torch.equal(got, expected), (groups, kernel, geometry, channels)


def test_a_packed_weight_serves_another_instruction_set_later() -> None:
    image, weight = channels_last(1, 20, 9, 9), torch.randn(40, 20, 3, 3)
    packed, before = ops.pack_conv2d(weight), _C.isa()
    expected = F.conv2d(image.double(), weight.double(), padding=1)
    try:
        for name in _C.available_isas():
            _C.select_isa(name)
            assert error(ops.conv2d(image, packed, padding=1), expected) < ERRORS["winograd4"], name
    finally:
        _C.select_isa(before)


def test_a_scale_is_that_of_a_batch_norm() -> None:
    image, weight = channels_last(2, 6, 9, 9), torch.randn(10, 6, 3, 3)
    norm = torch.nn.BatchNorm2d(10).eval()
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values is not None
            values.uniform_(0.5, 2)
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        assert norm.running_mean is not None
        shift = norm.bias - norm.running_mean * scale
        got = ops.conv2d(image, ops.pack_conv2d(weight, scale=scale), shift, padding=1)
        expected = norm(F.conv2d(image, weight, padding=1))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_packed_layer_is_channels_last_and_does_not_see_later_changes() -> None:
    image, weight = torch.randn(2, 6, 9, 9), torch.randn(10, 6, 3, 3)
    packed, expected = ops.pack_conv2d(weight), F.conv2d(image, weight)
    weight.zero_()
    got = ops.conv2d(image, packed)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    image.requires_grad_()
    (grad,) = torch.autograd.grad(ops.conv2d(image, packed).sum(), image)
    assert grad.shape == image.shape


def test_a_packed_layer_compiles() -> None:
    image, packed = channels_last(1, 6, 9, 9), ops.pack_conv2d(torch.randn(10, 6, 3, 3))
    compiled = torch.compile(
        lambda x: ops.conv2d(x, packed, padding=1), backend="eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(image), ops.conv2d(image, packed, padding=1))


def test_a_call_that_was_made_before_is_checked_where_it_differs() -> None:
    """Later calls skip the checks of sizes, not those of what can change behind them."""
    image, bias = channels_last(1, 6, 9, 9), torch.nn.Parameter(torch.randn(10))
    packed = ops.pack_conv2d(torch.randn(10, 6, 3, 3))
    with torch.no_grad():
        expected = ops.conv2d(image, packed, bias)
        assert torch.equal(ops.conv2d(image, packed, bias.detach().clone()), expected)
        assert torch.equal(ops.conv2d(image, packed, bias.repeat_interleave(2)[::2]), expected)
        for wrong in (bias[:5].clone(), bias.double(), torch.randn(10, 1)):
            bias.data = wrong  # as module.double() and the like do
            with pytest.raises(ArgumentError, match="bias"):
                ops.conv2d(image, packed, bias)
        with pytest.raises(ArgumentError, match="residual"):
            ops.conv2d(image, packed, residual=torch.randn(1, 10, 7, 6))


def test_a_preferred_backend_runs_a_call_that_was_made_before() -> None:
    image, packed = channels_last(1, 64, 28, 28), ops.pack_conv2d(torch.randn(64, 64, 3, 3))
    ours = ops.conv2d(image, packed, padding=1)
    with prefer("reference"):
        exact = ops.conv2d(image, packed, padding=1)
    expected = F.conv2d(image.double(), packed.weight.double(), padding=1)
    assert torch.equal(exact, expected.float())
    assert not torch.equal(ours, exact)


def test_packing_refuses_what_does_not_fit() -> None:
    weight = torch.randn(10, 6, 3, 3)
    with pytest.raises(ArgumentError, match="groups must be at least 1 and divide"):
        ops.pack_conv2d(weight, 3)
    with pytest.raises(ArgumentError, match="one number a filter"):
        ops.pack_conv2d(weight, scale=torch.ones(6))
    with pytest.raises(ArgumentError, match="weight must be on the CPU"):
        ops.pack_conv2d(weight.to("meta"))
    with pytest.raises(TypeError, match="must be an int"):
        ops.pack_conv2d(weight, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="packed with, 1; got 2"):
        ops.conv2d(torch.randn(1, 12, 9, 9), ops.pack_conv2d(weight), groups=2)
    with pytest.raises(ArgumentError, match="same dtype"):
        ops.conv2d(torch.randn(1, 6, 9, 9).double(), ops.pack_conv2d(weight))
