"""RoI Align: a fixed-size patch of bilinear samples for each box of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.registry import layout_of
from cvperf.errors import is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define
from cvperf.ops._rois import (
    as_output_size,
    as_rois,
    check_map,
    check_sampling_ratio,
    check_scale,
    fake_output,
)


def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Average of bilinear samples in each bin of each box.

    Each box is scaled to the map and divided into ``output_size`` bins. A bin is the mean of
    ``sampling_ratio`` x ``sampling_ratio`` samples on a regular grid in it. The answer is
    torchvision's, with sampling positions in float64. A sample more than one pixel outside the map,
    or whose position is not a number because a coordinate is NaN or infinite, contributes zero.
    With ``aligned=True`` and adaptive sampling a box of no or negative size is all zeros.

    Differentiable in ``input`` only, twice if need be. Deterministic, gradient included: the same
    bits for any number of threads.

    Args:
        input: [N, C, H, W] map; float16, bfloat16, float32 or float64. Channels-last is the fast
            layout; other strides than these two are copied to contiguous.
        boxes: [K, 5] rows ``(image index, x1, y1, x2, y2)``, or a list with one [L, 4] tensor
            ``(x1, y1, x2, y2)`` for each image. Any float dtype; coordinates in units of the image.
        output_size: bins as ``(height, width)``, or one int for both.
        spatial_scale: map pixels per unit of the boxes, such as 0.25 for a map of stride 4.
        sampling_ratio: samples per bin along each axis; 0 or less: ``ceil(box size / bins)`` of
            each box.
        aligned: shift by half a pixel, so that pixel centres lie at whole numbers plus a half, and
            let boxes be smaller than a pixel. False keeps the older convention, sizes at least 1.

    Returns:
        [K, C, height, width], dtype and memory format of ``input``.

    Raises:
        ArgumentError: ranks, dtypes or devices do not fit, or an image index is not a whole number
            in [0, N). On a GPU, which would have to be waited for,
            that is not refused: such a box is zeros and passes no gradient.
        TypeError: an argument is of the wrong type.

    Complexity: O(K * C * pixels read a box); lists of rows and columns are made once a box and
    shared by all channels. On a GPU the gradient, and more than 4 samples or adaptive ones, take
    ``4 * K * (height * H + width * W)`` bytes of scratch memory; the gradient
    ``K * H * W / 16`` more.

    Source: He, Gkioxari, Dollár and Girshick, "Mask R-CNN", ICCV 2017.
    """
    if not isinstance(input, Tensor) and is_array(input):
        return call_with_tensors(roi_align, locals())
    check_map(input)
    rois = as_rois(input, boxes)
    height, width = as_output_size(output_size)
    check_scale(spatial_scale)
    check_sampling_ratio(sampling_ratio)
    output: Tensor = _roi_align(
        input, rois, spatial_scale, height, width, sampling_ratio, bool(aligned)
    )
    return output


def _fake(
    input: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return fake_output(input, boxes, pooled_height, pooled_width)


def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return torch.empty(
        (batch_size, channels, height, width),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=memory_format(layout_of(grad) == "channels_last"),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, boxes, *ctx.settings = inputs
    ctx.save_for_backward(boxes)
    ctx.shape = image.shape
    ctx.format = memory_format(layout_of(image) == "channels_last")


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (boxes,) = ctx.saved_tensors
    scale, height, width, ratio, aligned = ctx.settings
    # What follows the op often hands back another layout; the map keeps its own.
    grad = grad.contiguous(memory_format=ctx.format)
    image_grad = _roi_align_backward(grad, boxes, scale, height, width, *ctx.shape, ratio, aligned)
    return (image_grad, *[None] * 6)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, boxes, *ctx.settings = inputs
    ctx.save_for_backward(boxes)


def _backward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # RoI Align is linear in the map, so the gradient of its gradient is RoI Align.
    (boxes,) = ctx.saved_tensors
    scale, pooled_height, pooled_width, _, _, _, _, ratio, aligned = ctx.settings
    bins = _roi_align(grad, boxes, scale, pooled_height, pooled_width, ratio, aligned)
    return (bins, *[None] * 10)


_roi_align = define(
    "roi_align(Tensor input, Tensor boxes, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor",
    _fake,
    backward=_backward,
    setup_context=_save,
)
_roi_align_backward = define(
    "roi_align_backward(Tensor grad, Tensor boxes, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    _fake_backward,
    backward=_backward_backward,
    setup_context=_save_backward,
)
