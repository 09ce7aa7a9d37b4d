"""RoI Align in float64: each bin as a product with a row and a column of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cvperf.backends.pyramid import pyramid_levels
from cvperf.backends.registry import FLOATING, register


@register("roi_align", "reference", "cpu", FLOATING, automatic=False)
def roi_align(
    image: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Each box as (rows of weights) @ map @ (columns of weights), since sampling is separable."""
    settings = (spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    bins = [
        rows @ image[index].double() @ columns.T
        for index, rows, columns in _roi_weights(boxes, image, image.shape[2:], *settings)
    ]
    empty = image.new_empty((0, image.shape[1], pooled_height, pooled_width))
    return (torch.stack(bins) if bins else empty).to(image.dtype)


@register("roi_align_backward", "reference", "cpu", FLOATING, automatic=False)
def roi_align_backward(
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
    """The transpose of the forward's two matrix products."""
    settings = (spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned)
    image_grad = torch.zeros((batch_size, channels, height, width), dtype=torch.float64)
    weights = _roi_weights(boxes, grad, (height, width), *settings)
    for box_grad, (index, rows, columns) in zip(grad.double(), weights, strict=True):
        image_grad[index] += rows.T @ box_grad @ columns
    return image_grad.to(grad.dtype)


@register("multiscale_roi_align", "reference", "cpu", FLOATING, automatic=False)
def multiscale_roi_align(
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
    """Each level's boxes by themselves."""
    shape = (len(boxes), features[0].shape[1], pooled_height, pooled_width)
    output = features[0].new_zeros(shape)
    levels = _levels(boxes, scales, canonical_scale, canonical_level)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        here = levels == level
        bins = (pooled_height, pooled_width)
        output[here] = roi_align(feature, boxes[here], scale, *bins, sampling_ratio, aligned)
    return output


@register("multiscale_roi_align_backward", "reference", "cpu", FLOATING, automatic=False)
def multiscale_roi_align_backward(
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
    levels = _levels(boxes, scales, canonical_scale, canonical_level)
    grads = []
    for level, (scale, height, width) in enumerate(zip(scales, heights, widths, strict=True)):
        here = levels == level
        bins, size = (pooled_height, pooled_width), (batch_size, channels)
        grads.append(
            roi_align_backward(
                *(grad[here], boxes[here], scale, *bins, *size, height, width),
                sampling_ratio,
                aligned,
            )
        )
    return grads


def _levels(
    boxes: Tensor, scales: Sequence[float], canonical_scale: float, canonical_level: int
) -> Tensor:
    if len(scales) == 1:
        return torch.zeros(len(boxes))
    return pyramid_levels(boxes, scales, canonical_scale, canonical_level)


def _roi_weights(
    boxes: Tensor,
    like: Tensor,
    size: Sequence[int],
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each box's image index, row weights [pooled_height, H], column weights [pooled_width, W]."""
    # The number of samples is counted in the type that boxes are given in, as torchvision does.
    boxes = boxes.to(torch.float64 if like.dtype == torch.float64 else torch.float32)
    for index, x1, y1, x2, y2 in boxes:
        rows, columns = (
            _axis_weights(first, last, bins, pixels, spatial_scale, sampling_ratio, aligned)
            for first, last, bins, pixels in (
                (y1, y2, pooled_height, size[0]),
                (x1, x2, pooled_width, size[1]),
            )
        )
        yield int(index), rows, columns


def _axis_weights(
    first: Tensor,
    last: Tensor,
    bins: int,
    pixels: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """[bins, pixels]: how much of each pixel is in each bin, along one axis of one box."""
    offset = 0.5 if aligned else 0.0

    def extent(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        start = a * spatial_scale - offset
        length = b * spatial_scale - offset - start
        return start, length if aligned else length.clamp(min=1)

    samples = sampling_ratio
    if sampling_ratio <= 0:
        count = torch.ceil(extent(first, last)[1] / bins)
        samples = int(count) if count.isfinite() else 0
    weights = torch.zeros(bins, pixels, dtype=torch.float64)
    if samples <= 0 or pixels == 0:
        return weights
    start, length = extent(first.double(), last.double())
    bin_index = torch.arange(bins, dtype=torch.float64)[:, None]
    step = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    position = start + (bin_index + step) * (length / bins)
    inside = (position >= -1) & (position <= pixels)  # false for NaN
    position = torch.where(inside, position, 0.0).clamp(0, pixels - 1)
    low = position.floor()
    fraction = position - low
    high = (low + 1).clamp(max=pixels - 1)
    share = inside.double() / samples
    weights.scatter_add_(1, low.long(), (1 - fraction) * share)
    return weights.scatter_add_(1, high.long(), fraction * share)
