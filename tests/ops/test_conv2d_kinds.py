"""Depthwise and first layers, which have kernels of their own, and weight gradients: the edges."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.ops import conv2d

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
}


def assert_layer_is_right(
    image: Tensor, weight: Tensor, activation: str | None = None, **geometry: object
) -> None:
    """Forward with everything fused, and both gradients without, against float64."""
    what = f"image {list(image.shape)}, weight {list(weight.shape)}, {geometry}, {activation}"
    bias = torch.randn(len(weight))
    wide = [each.double().requires_grad_() for each in (image, weight)]
    sums = F.conv2d(*wide, **geometry)
    residual = torch.randn(sums.shape).contiguous(memory_format=LAYOUTS[layout_of(image)])
    for extra in (None, residual):
        got = conv2d(image, weight, bias, **geometry, activation=activation, residual=extra)
        before = sums + bias.double().view(-1, 1, 1)
        before = before if extra is None else before + extra.double()
        check("output", got, ACTIVATIONS[activation](before), before, what)

    grad = torch.randn(sums.shape).contiguous(memory_format=LAYOUTS[layout_of(image)])
    expected = torch.autograd.grad(sums, wide, grad.double())
    inputs = [each.detach().requires_grad_() for each in (image, weight)]
    got_grads = torch.autograd.grad(conv2d(*inputs, **geometry), inputs, grad)
    for name, one, other in zip(("image", "weight"), got_grads, expected, strict=True):
        check(f"gradient of the {name}", one, other, other, what)


def layout_of(image: Tensor) -> str:
    return "nchw" if image.is_contiguous() else "channels_last"


def check(name: str, got: Tensor, expected: Tensor, scale: Tensor, what: str) -> None:
    worst = (got.double() - expected).abs().max() / scale.abs().max().clamp(min=1e-30)
    assert worst <= 1e-5, f"{name}: {worst:.1e} for {what}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [7, 17, 96, 672])
def test_depthwise_blocks_of_every_width(channels: int, layout: str, isa: str) -> None:
    """Widths below, at and just above a block of columns; kernels with blocks and without."""
    kernels = itertools.cycle([(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2), (2, 1), (3, 3)])
    activations = itertools.cycle(ACTIVATIONS)
    for width in (1, 3, 4, 5, 7, 8, 9, 13, 16, 17, 23, 31):
        kernel, stride = next(kernels)
        image = torch.randn(2, channels, 6, width).contiguous(memory_format=LAYOUTS[layout])
        weight = torch.randn(channels, 1, kernel, kernel)
        assert_layer_is_right(
            image, weight, next(activations), stride=stride, padding=kernel // 2, groups=channels
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_depthwise_with_dilation_and_with_more_padding_than_kernel(layout: str, isa: str) -> None:
    for size, kernel, stride, padding, dilation in [
        ((9, 14), (3, 3), (1, 1), (5, 4), (1, 1)),
        ((9, 14), (5, 5), (2, 2), (7, 6), (1, 1)),
        ((9, 14), (3, 3), (1, 1), (2, 2), (2, 2)),
        ((9, 14), (3, 3), (1, 2), (2, 1), (3, 1)),
        ((1, 40), (3, 3), (2, 1), (1, 0), (1, 1)),
        ((40, 1), (3, 3), (1, 1), (0, 4), (1, 1)),
        ((12, 12), (5, 3), (1, 2), (2, 1), (1, 1)),
        ((12, 12), (1, 5), (3, 2), (0, 0), (1, 1)),
    ]:
        image = torch.randn(2, 40, *size).contiguous(memory_format=LAYOUTS[layout])
        weight = torch.randn(40, 1, *kernel)
        assert_layer_is_right(
            image, weight, stride=stride, padding=padding, dilation=dilation, groups=40
        )


def test_a_depthwise_layer_of_several_bands_and_chunks_of_channels(isa: str) -> None:
    image = torch.randn(3, 200, 61, 58).contiguous(memory_format=torch.channels_last)
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
        weight = torch.randn(200, 1, kernel, kernel)
        assert_layer_is_right(
            image, weight, "relu6", stride=stride, padding=kernel // 2, groups=200
        )


@pytest.mark.parametrize("channels", [16, 33])
def test_a_depthwise_layer_larger_than_the_caches(channels: int, isa: str) -> None:
    """Rows come from memory, ahead of time; aligned outputs go past the caches, others do not."""
    weight = torch.randn(channels, 1, 3, 3)
    bias, size = torch.randn(channels), (3 << 21) // channels
    image = torch.randn(1, channels, 513, size // 513).contiguous(memory_format=torch.channels_last)
    for stride, activation in ((1, "relu"), (1, "silu"), (2, None)):
        got = conv2d(
            image, weight, bias, stride=stride, padding=1, groups=channels, activation=activation
        )
        sums = F.conv2d(image, weight, bias, stride, 1, 1, channels)
        check("output", got, ACTIVATIONS[activation](sums), sums, f"{channels}, {stride}")


def test_a_strided_depthwise_gradient_larger_than_the_caches(isa: str) -> None:
    """24 channels: pixels two apart lie whole vectors apart, each of which is none."""
    channels = 24
    image = torch.randn(1, channels, 513, (8 << 20) // channels // 513)
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, 3, 3)
    sums = F.conv2d(image, weight, None, 2, 1, 1, channels)
    grad = torch.randn(sums.shape).contiguous(memory_format=torch.channels_last)
    expected = torch.autograd.grad(sums, image, grad)[0]
    output = conv2d(image, weight, stride=2, padding=1, groups=channels)
    got = torch.autograd.grad(output, image, grad)[0]
    check("gradient of the image", got, expected, expected, "24 channels")


def test_a_first_layer_larger_than_the_caches(isa: str) -> None:
    for filters, activation in ((64, "relu"), (40, "silu")):
        side = (7 << 20) // (filters * 400) + 1
        image = torch.randn(1, 1, 400, side).contiguous(memory_format=torch.channels_last)
        weight, bias = torch.randn(filters, 1, 3, 3), torch.randn(filters)
        got = conv2d(image, weight, bias, padding=1, activation=activation)
        sums = F.conv2d(image, weight, bias, padding=1)
        check("output", got, ACTIVATIONS[activation](sums), sums, f"{filters} filters")


@pytest.mark.parametrize("channels", [1, 5, 16, 70, 256])
def test_pixels_times_few_filters(channels: int, isa: str) -> None:
    """Fewer pixels than a tile and more, and as many filters as a vector has lanes and one more."""
    sizes = itertools.cycle([(1, 1, 3), (2, 1, 7), (1, 4, 4), (3, 9, 7), (1, 12, 1), (2, 40, 31)])
    activations = itertools.cycle(ACTIVATIONS)
    for filters in range(1, 18):
        batch, height, width = next(sizes)
        image = torch.randn(batch, channels, height, width)
        image = image.contiguous(memory_format=torch.channels_last)
        assert_layer_is_right(image, torch.randn(filters, channels, 1, 1), next(activations))


def test_an_infinite_pixel_of_few_filters_leaves_the_others_alone(isa: str) -> None:
    for channels, filters in ((20, 2), (20, 3), (9, 12)):
        image = torch.randn(1, channels, 6, 6).contiguous(memory_format=torch.channels_last)
        image[0, :, 2, 3] = float("inf")
        weight = torch.rand(filters, channels, 1, 1)
        got = conv2d(image, weight).isfinite()
        assert got.sum() == got.numel() - filters
        assert not got[0, :, 2, 3].any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_first_layers(channels: int, layout: str, isa: str) -> None:
    activations = itertools.cycle(ACTIVATIONS)
    for filters, size, kernel, stride, padding, dilation in [
        (64, (33, 47), (7, 7), 2, 3, 1),
        (32, (20, 70), (3, 3), 1, 1, 1),
        (24, (20, 33), (3, 3), 2, 1, 1),
        (16, (9, 16), (6, 6), 2, 2, 1),
        (17, (9, 19), (1, 1), 1, 0, 1),
        (33, (8, 40), (3, 5), (2, 3), (4, 7), (2, 3)),
        (130, (5, 5), (5, 5), 1, 6, 1),
        (40, (64, 64), (4, 4), 4, 0, 1),
        (3, (12, 12), (3, 3), 1, 1, 1),
    ]:
        image = torch.randn(2, channels, *size).contiguous(memory_format=LAYOUTS[layout])
        weight = torch.randn(filters, channels, *kernel)
        assert_layer_is_right(
            image, weight, next(activations), stride=stride, padding=padding, dilation=dilation
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_layers_of_half_types_are_rounded_once(
    dtype: torch.dtype, layout: str, isa: str
) -> None:
    for filters, size, kernel, stride, padding in [
        (64, (33, 47), (7, 7), 2, 3),
        (24, (20, 33), (3, 3), 2, 1),
        (17, (9, 19), (1, 1), 1, 0),
        (33, (8, 40), (3, 5), (2, 3), (4, 7)),
    ]:
        image, weight, bias = (
            torch.randn(sizes).to(dtype)
            for sizes in ((2, 3, *size), (filters, 3, *kernel), (filters,))
        )
        image = image.contiguous(memory_format=LAYOUTS[layout])
        sums = F.conv2d(image.double(), weight.double(), bias.double(), stride, padding)
        for residual in (None, torch.randn(sums.shape).to(dtype)):
            got = conv2d(image, weight, bias, stride, padding, activation="relu", residual=residual)
            expected = F.relu(sums if residual is None else sums + residual.double())
            unit = torch.finfo(dtype).eps * expected.abs() + 1e-5 * sums.abs().max()
            assert ((got.double() - expected).abs() <= unit).all(), (filters, size, kernel)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_weights_of_every_width(layout: str, isa: str) -> None:
    """Channels and filters that fill no vector, tile or block; pixels that fill no chunk."""
    for channels, filters, size, kernel, stride, groups in [
        (5, 3, (7, 9), 3, 1, 1),
        (11, 20, (14, 14), 3, 1, 1),
        (65, 70, (10, 13), 3, 2, 1),
        (130, 129, (7, 7), 1, 1, 1),
        (300, 40, (9, 8), 1, 2, 1),
        (48, 96, (5, 130), 3, 1, 1),
        (60, 24, (12, 67), 5, 1, 4),
        (24, 48, (13, 13), 3, 1, 8),
    ]:
        image = torch.randn(3, channels, *size).contiguous(memory_format=LAYOUTS[layout])
        weight = torch.randn(filters, channels // groups, kernel, kernel)
        assert_layer_is_right(image, weight, stride=stride, padding=kernel // 2, groups=groups)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_weights_in_other_dtypes(layout: str, dtype: torch.dtype, isa: str) -> None:
    tolerance = {torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    for channels, filters, kernel in ((3, 20, 7), (19, 70, 3), (70, 9, 1)):
        image = torch.randn(2, channels, 11, 13).to(dtype, memory_format=LAYOUTS[layout])
        weight = torch.randn(filters, channels, kernel, kernel).to(dtype).requires_grad_()
        output = conv2d(image, weight, padding=kernel // 2)
        grad = torch.randn(output.shape).to(dtype)
        got = torch.autograd.grad(output, weight, grad)[0]
        wide = weight.detach().double().requires_grad_()
        sums = F.conv2d(image.double(), wide, padding=kernel // 2)
        expected = torch.autograd.grad(sums, wide, grad.double())[0]
        worst = (got.double() - expected).abs().max() / expected.abs().max()
        assert worst <= tolerance, f"{worst:.1e} for {channels} to {filters}, kernel {kernel}"
