"""Where the original convolution is faster than ours: the recorded crossovers of the drop-in.

Each rule was measured side by side with the original, call overhead included, on the layers of
MobileNetV2, ResNet-50 and MTCNN; the figures are in docs/performance.md. We serve the groups of
layers that won on the whole, so single layers in them can be even or a few percent behind. A rule
returns why the original runs, or None.

NMS, RoI Align and RoI pooling have no rule: ours was faster at every size measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.conv2d import fits_winograd
from cvperf.backends.registry import convolution_format
from cvperf.ops._convolution import output_shape

_WIDE = ("avx512", "avx512_vnni", "avx512_bf16")  # measured on the last, as one processor has it
# Instruction sets whose crossovers were measured; AVX-VNNI runs the convolutions of AVX2.
RECORDED = ("avx2", "avx_vnni", *_WIDE)

_HALF = (torch.float16, torch.bfloat16)
_FASTER = "the original is faster by the recorded crossover"
_ignored = False


@contextmanager
def ignored() -> Iterator[None]:
    """Serve every call that the kernels take, faster or not: for tests and measurements.

    On a GPU open it before ``use``, which leaves alone what no GPU has measured.
    """
    global _ignored
    before, _ignored = _ignored, True
    try:
        yield
    finally:
        _ignored = before


def ignoring() -> bool:
    """Whether an ``ignored`` block is open."""
    return _ignored


def conv2d(
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str | None:
    """Why torch runs this convolution."""
    if _ignored:
        return None
    if _C.isa() not in RECORDED:
        return f"no crossover is recorded for {_C.isa()}; CVPERF_AUTOTUNE=1 measures here"
    filters, channels, *kernel = weight.shape
    if _C.isa() in _WIDE:
        pixels = image.shape[0] * math.prod(
            output_shape(image, weight, stride, padding, dilation)[2:]
        )
        winograd = fits_winograd(kernel, stride, dilation)
        serve = _wins_wide(image, weight, winograd, pixels, groups)
        return None if serve else f"{_FASTER} (this kind of layer, AVX-512)"
    if image.dtype in _HALF:
        return None  # torch has no fast kernel for these on this instruction set: 5x to 100x
    if image.dtype == torch.float64:
        # torch unfolds the image for these, and computes depthwise channel by channel.
        return None if max(kernel) > 1 else f"{_FASTER} (float64, 1x1)"
    if groups > 1:
        return f"{_FASTER} (float32, grouped or depthwise)"
    height, width = output_shape(image, weight, stride, padding, dilation)[2:]
    pixels = height * width
    if convolution_format(image, weight) == torch.channels_last:
        winograd = fits_winograd(kernel, stride, dilation)
        serve = _wins_channels_last(filters, channels, kernel, pixels) or (
            winograd and _wins_winograd(filters, channels, image.shape[0] * pixels)
        )
        return None if serve else f"{_FASTER} (float32, channels-last, this size)"
    threads = torch.get_num_threads()
    work = 2 * image.shape[0] * pixels * filters * channels * kernel[0] * kernel[1]
    serve = _wins_planar(filters, channels, kernel, stride, pixels, work, threads)
    return None if serve else f"{_FASTER} (float32, NCHW, this size)"


def conv2d_input_grad(
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str | None:
    """Why torch runs the image's gradient of this convolution."""
    if (refusal := _gradients(image, groups)) != "float32":
        return refusal
    filters, channels, *kernel = weight.shape
    serve = _is_depthwise_last(image, weight, groups) and _C.isa() in _WIDE
    if convolution_format(image, weight) == torch.channels_last and groups == 1:
        # The forward convolution of the output's gradient, with the weight turned.
        pixels = image.shape[0] * image.shape[2] * image.shape[3]
        winograd = fits_winograd(kernel, stride, dilation)
        serve = winograd and _wins_winograd(channels, filters, pixels)
    return None if serve else f"{_FASTER} (input gradient, this kind of layer)"


def conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> str | None:
    """Why torch runs the weight's gradient of this convolution."""
    if (refusal := _gradients(image, groups)) != "float32":
        return refusal
    # With AVX2 depthwise ones won alone, and lost in a network, where the image comes from memory.
    serve = _is_depthwise_last(image, weight, groups) and _C.isa() in _WIDE
    if convolution_format(image, weight) == torch.channels_last and groups == 1:
        filters, channels, *kernel = weight.shape
        if _C.isa() in _WIDE:
            winograd = fits_winograd(kernel, stride, dilation)
            serve = winograd and min(filters, channels) >= 64 and _fills_tiles(grad)
        else:
            serve = max(kernel) > 1
    return None if serve else f"{_FASTER} (weight gradient, this kind of layer)"


def _gradients(image: Tensor, groups: int) -> str | None:
    """Why torch runs either gradient, None if we do, ``"float32"`` if it depends on the layer."""
    if _ignored:
        return None
    if _C.isa() not in RECORDED:
        return f"no crossover is recorded for {_C.isa()}"
    if image.dtype == torch.float32:
        return "float32"
    if image.dtype == torch.float16 or (image.dtype == torch.bfloat16 and _C.isa() not in _WIDE):
        return None
    depthwise = groups > 1 and groups == image.shape[1]
    if image.dtype == torch.float64 and depthwise and _C.isa() not in _WIDE:
        return None
    return f"{_FASTER} ({str(image.dtype).removeprefix('torch.')} gradients)"


def _wins_wide(image: Tensor, weight: Tensor, winograd: bool, pixels: int, groups: int) -> bool:
    """AVX-512: Winograd's layers, float16, which torch has no kernel for, and depthwise ones."""
    filters, channels = weight.shape[:2]
    if image.dtype == torch.float16:
        return True
    if image.dtype != torch.float32:
        return False
    if groups > 1:
        return _is_depthwise_last(image, weight, groups)
    return winograd and _wins_winograd(filters, channels, pixels)


def _is_depthwise_last(image: Tensor, weight: Tensor, groups: int) -> bool:
    depthwise = 1 < groups == image.shape[1] == weight.shape[0]
    return depthwise and convolution_format(image, weight) == torch.channels_last


def _wins_winograd(filters: int, channels: int, pixels: int) -> bool:
    """Layers of 3x3 and stride 1; ``pixels`` of the whole batch."""
    # With fewer pixels, transforming the weight in each call costs more than it saves.
    large = 18 * pixels * filters * channels >= 2e7
    return large and min(filters, channels) >= 32 and pixels >= filters


def _fills_tiles(grad: Tensor) -> bool:
    """Whether tiles of 4x4 outputs are many, and mostly inside the map."""
    batch, _, height, width = grad.shape
    tiles = batch * math.ceil(height / 4) * math.ceil(width / 4)
    return tiles >= 32 and 16 * tiles <= 2 * batch * height * width


def _wins_channels_last(filters: int, channels: int, kernel: Sequence[int], pixels: int) -> bool:
    if max(kernel) == 1:
        return pixels <= 49 and min(filters, channels) >= 512 and filters * channels >= 2**20
    return (channels >= 256 and pixels <= 784) or (channels >= 28 and pixels <= 100)


def _wins_planar(
    filters: int,
    channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    pixels: int,
    work: int,
    threads: int,
) -> bool:
    if max(kernel) > 1:
        if channels >= 128:
            return pixels <= 784  # 28x28; on 50x50 we lost by 3 to 5 %
        if threads == 1 or work < 4e6:  # operations; below, the call's overhead decides
            return False
        few_filters = filters <= 16 and max(stride) == 1
        return few_filters or (channels >= 28 and pixels <= 100)
    if threads == 1 or work < 5e5:
        return False
    if filters <= channels:  # at most as many out as in, as in the projections of MobileNetV2
        return work < 1e8
    return pixels >= 784 and max(stride) == 1
