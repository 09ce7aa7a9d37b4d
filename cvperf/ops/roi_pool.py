"""RoI max pooling: a fixed-size patch of maxima for each box of a feature map (Fast R-CNN)."""

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
    check_scale,
    fake_output,
)


def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Largest pixel of each bin of each box.

    Each box is scaled to the map, rounded to whole pixels (halves away from zero), made at least
    one pixel large, and divided into ``output_size`` bins of whole pixels that may overlap. The
    answer is torchvision's. A bin without pixels is 0 and passes no gradient; so are all bins of a
    box with a NaN coordinate. A bin whose pixels are all NaN or -inf is the lowest float32, as in
    torchvision.

    Differentiable in ``input`` only: a bin's gradient goes to the first of its largest pixels.
    Deterministic, gradient included: the same bits for any number of threads.

    Args:
        input: [N, C, H, W] map; float16, bfloat16, float32 or float64. Channels-last is the fast
            layout; other strides than these two are copied to contiguous.
        boxes: [K, 5] rows ``(image index, x1, y1, x2, y2)``, or a list with one [L, 4] tensor
            ``(x1, y1, x2, y2)`` for each image. Any float dtype; coordinates in units of the image.
        output_size: bins as ``(height, width)``, or one int for both.
        spatial_scale: map pixels per unit of the boxes, such as 0.0625 for a map of stride 16.

    Returns:
        [K, C, height, width], dtype and memory format of ``input``.

    Raises:
        ArgumentError: ranks, dtypes or devices do not fit, or an image index is not a whole number
            in [0, N). On a GPU, which would have to be waited for,
            that is not refused: such a box is zeros and passes no gradient.
        TypeError: an argument is of the wrong type.

    Complexity: O(K * C * pixels a box covers).

    Source: Girshick, "Fast R-CNN", ICCV 2015.
    """
    if not isinstance(input, Tensor) and is_array(input):
        return call_with_tensors(roi_pool, locals())
    check_map(input)
    rois = as_rois(input, boxes)
    height, width = as_output_size(output_size)
    check_scale(spatial_scale)
    output: Tensor
    output, _ = _roi_pool(input, rois, spatial_scale, height, width)
    return output


def _fake(
    input: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
) -> tuple[Tensor, Tensor]:
    output = fake_output(input, boxes, pooled_height, pooled_width)
    return output, torch.empty_like(output, dtype=torch.int32)


def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
) -> Tensor:
    return torch.empty(
        (batch_size, channels, height, width),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=memory_format(layout_of(grad) == "channels_last"),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    image, boxes, *ctx.settings = inputs
    argmax = output[1]
    ctx.mark_non_differentiable(argmax)
    ctx.save_for_backward(boxes, argmax)
    ctx.shape = image.shape
    ctx.format = memory_format(layout_of(image) == "channels_last")


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    boxes, argmax = ctx.saved_tensors
    # What follows the op often hands back another layout; the map keeps its own.
    grad = grad.contiguous(memory_format=ctx.format)
    image_grad = _roi_pool_backward(grad, boxes, argmax, *ctx.settings, *ctx.shape)
    return (image_grad, *[None] * 4)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1], inputs[2])


def _backward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    # The gradient moved each bin to its largest pixel; its own gradient reads that pixel.
    boxes, argmax = ctx.saved_tensors
    images = grad.flatten(2).index_select(0, boxes[:, 0].to(torch.int64))
    where = argmax.flatten(2).to(torch.int64)
    bins = images.gather(2, where.clamp(min=0)) * (where >= 0)
    return (bins.reshape(argmax.shape), *[None] * 9)


_roi_pool = define(
    "roi_pool(Tensor input, Tensor boxes, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_save,
)
_roi_pool_backward = define(
    "roi_pool_backward(Tensor grad, Tensor boxes, Tensor argmax, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, "
    "SymInt height, SymInt width) -> Tensor",
    _fake_backward,
    backward=_backward_backward,
    setup_context=_save_backward,
)
