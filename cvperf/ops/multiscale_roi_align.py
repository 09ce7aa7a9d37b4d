"""RoI Align over a feature pyramid: each box is pooled from the level that its size calls for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.pyramid import pyramid_format
from cvperf.backends.registry import FLOATING, layout_of
from cvperf.errors import ArgumentError, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define
from cvperf.ops._rois import as_output_size, as_rois, check_sampling_ratio


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int = -1,
    *,
    aligned: bool = False,
    canonical_scale: float = 224,
    canonical_level: int = 4,
) -> Tensor:
    """RoI Align of each box on the level of a feature pyramid that fits its size, in one call.

    A box of width w and height h is pooled from level
    ``floor(canonical_level + log2(sqrt(w * h) / canonical_scale) + 1e-6)``, clamped to the levels
    given, where level k is the one of scale 2**-k. Level for level this is the choice of
    torchvision's ``MultiScaleRoIAlign``, and on its level a box is pooled as by :func:`roi_align`.
    A box of negative area, or with a NaN coordinate, belongs to no level: its bins are zero. With
    a single level there is no choice, and every box is pooled from it.

    Differentiable in ``features`` only, twice if need be. Deterministic, gradients included: the
    same bits for any number of threads.

    Args:
        features: one [N, C, H, W] map for each level, finest first; N and C, dtype and device are
            the same for all, H and W are not. float16, bfloat16, float32 or float64. Channels-last
            is the fast layout: if one level is channels-last, the others are taken as that too.
        boxes: [K, 5] rows ``(image index, x1, y1, x2, y2)``, or a list with one [L, 4] tensor
            ``(x1, y1, x2, y2)`` for each image. Any float dtype; coordinates in units of the image.
        output_size: bins as ``(height, width)``, or one int for both.
        scales: map pixels per unit of the boxes for each level. Powers of two, each half of the one
            before, such as ``(1/4, 1/8, 1/16, 1/32)``; a single one may be any number.
        sampling_ratio: samples per bin along each axis; 0 or less: ``ceil(box size / bins)`` of
            each box.
        aligned: shift by half a pixel, as for :func:`roi_align`.
        canonical_scale: side of a box, in units of the image, that belongs on ``canonical_level``.
        canonical_level: the k of the map of scale 2**-k on which such a box belongs.

    Returns:
        [K, C, height, width] in the order of the boxes, dtype of ``features``; channels-last if one
        of them is.

    Raises:
        ArgumentError: ranks, shapes, dtypes or devices do not fit, ``scales`` do not halve, or an
            image index is not a whole number in [0, N). On a GPU, which would have to be waited
            for, that is not refused: such a box is zeros and passes no gradient.
        TypeError: an argument is of the wrong type.

    Complexity: O(K * C * pixels read a box). One kernel call for all levels, which writes each box
    in its place.

    Source: Lin, Dollár, Girshick, He, Hariharan and Belongie, "Feature Pyramid Networks for Object
    Detection", CVPR 2017, equation 1; He, Gkioxari, Dollár and Girshick, "Mask R-CNN", ICCV 2017.
    """
    first = features[0] if isinstance(features, (list, tuple)) and features else None
    if not isinstance(first, Tensor) and is_array(first):
        return call_with_tensors(multiscale_roi_align, locals())
    features = _check_features(features)
    rois = as_rois(features[0], boxes)
    height, width = as_output_size(output_size)
    scales = _check_scales(scales, features)
    check_sampling_ratio(sampling_ratio)
    _check_canonical(canonical_scale, canonical_level)
    settings = (sampling_ratio, bool(aligned), float(canonical_scale), canonical_level)
    output: Tensor = _multiscale_roi_align(features, rois, scales, height, width, *settings)
    return output


def _check_features(features: Sequence[Tensor]) -> list[Tensor]:
    if not isinstance(features, (list, tuple)):
        raise TypeError(
            f"features must be a list with one Tensor[N, C, H, W] a level, got {describe(features)}"
        )
    if not features:
        raise ArgumentError("features is empty: expected one Tensor[N, C, H, W] for each level")
    for i, each in enumerate(features):
        name, like = f"features[{i}]", ("features[0]", features[0]) if i else None
        check_tensor(name, each, f"{name}[N, C, H, W]", ndim=4, dtypes=FLOATING, like=like)
        if each.shape[:2] != features[0].shape[:2]:
            raise ArgumentError(
                f"features must share images and channels: features[0] is {describe(features[0])}, "
                f"{name} is {describe(each)}"
            )
    return list(features)


def _check_scales(scales: Sequence[float], features: Sequence[Tensor]) -> list[float]:
    if not isinstance(scales, (list, tuple)) or not all(_is_number(scale) for scale in scales):
        raise TypeError(f"scales must be a list with one number a level, got {describe(scales)}")
    values = [float(scale) for scale in scales]
    if len(values) != len(features):
        raise ArgumentError(
            f"scales must have one number a level: it has {len(values)}, features has "
            f"{len(features)} maps"
        )
    if not all(0 < scale < math.inf for scale in values):
        raise ArgumentError(f"scales must be positive and finite, got {values}")
    halving = all(2 * after == before for before, after in itertools.pairwise(values))
    if len(values) > 1 and not (halving and math.frexp(values[0])[0] == 0.5):
        raise ArgumentError(
            "scales must be powers of two, each half of the one before, such as "
            f"(1/4, 1/8, 1/16, 1/32), got {values}: the choice of a level counts in octaves. "
            "Pool other pyramids level by level with roi_align"
        )
    return values


def _check_canonical(canonical_scale: float, canonical_level: int) -> None:
    if not _is_number(canonical_scale):
        raise TypeError(f"canonical_scale must be a number, got {describe(canonical_scale)}")
    if not 0 < canonical_scale < math.inf:
        raise ArgumentError(f"canonical_scale must be positive and finite, got {canonical_scale}")
    if isinstance(canonical_level, bool) or not isinstance(canonical_level, int):
        raise TypeError(f"canonical_level must be an int, got {describe(canonical_level)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fake(
    features: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Tensor:
    return torch.empty(
        (boxes.shape[0], features[0].shape[1], pooled_height, pooled_width),
        dtype=features[0].dtype,
        device=features[0].device,
        memory_format=pyramid_format(features),
    )


def _fake_backward(
    grad: Tensor,
    boxes: Tensor,
    scales: Sequence[float],
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    heights: Sequence[int],
    widths: Sequence[int],
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> list[Tensor]:
    format = memory_format(layout_of(grad) == "channels_last")
    like: dict[str, Any] = {"dtype": grad.dtype, "device": grad.device, "memory_format": format}
    sizes = zip(heights, widths, strict=True)
    return [torch.empty((batch_size, channels, *size), **like) for size in sizes]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, boxes, *ctx.settings = inputs
    ctx.save_for_backward(boxes)
    ctx.images, ctx.channels = features[0].shape[:2]
    ctx.heights = [each.shape[2] for each in features]
    ctx.widths = [each.shape[3] for each in features]
    ctx.format = pyramid_format(features)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (boxes,) = ctx.saved_tensors
    scales, height, width, *settings = ctx.settings
    # What follows the op often hands back another layout; the maps keep their own.
    grad = grad.contiguous(memory_format=ctx.format)
    sizes = (ctx.images, ctx.channels, ctx.heights, ctx.widths)
    grads = _multiscale_roi_align_backward(grad, boxes, scales, height, width, *sizes, *settings)
    return (grads, *[None] * 8)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    _, boxes, *ctx.settings = inputs
    ctx.save_for_backward(boxes)


def _backward_backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    # Linear in the maps, so the gradient of its gradient is the op itself.
    (boxes,) = ctx.saved_tensors
    scales, pooled_height, pooled_width, _, _, _, _, *settings = ctx.settings
    bins = _multiscale_roi_align(grads, boxes, scales, pooled_height, pooled_width, *settings)
    return (bins, *[None] * 12)


_multiscale_roi_align = define(
    "multiscale_roi_align(Tensor[] features, Tensor boxes, float[] scales, SymInt pooled_height, "
    "SymInt pooled_width, int sampling_ratio, bool aligned, float canonical_scale, "
    "int canonical_level) -> Tensor",
    _fake,
    backward=_backward,
    setup_context=_save,
)
_multiscale_roi_align_backward = define(
    "multiscale_roi_align_backward(Tensor grad, Tensor boxes, float[] scales, "
    "SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, "
    "SymInt[] heights, SymInt[] widths, int sampling_ratio, bool aligned, float canonical_scale, "
    "int canonical_level) -> Tensor[]",
    _fake_backward,
    backward=_backward_backward,
    setup_context=_save_backward,
)
