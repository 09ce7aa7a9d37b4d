"""RoI Align and RoI pooling on the CPU, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.pyramid import as_pyramid, pyramid_format, pyramid_levels
from cvperf.backends.registry import FLOATING, layout_of, register
from cvperf.backends.rois import check_grad
from cvperf.errors import ArgumentError, describe

_RoiSizes = tuple[int, int, int, int, int, int]
_MOST_SAMPLES = 46340  # a bin and axis: the square is counted in 32 bits


@register("roi_align", "cpu", "cpu", FLOATING)
def roi_align(
    image: Tensor,
    boxes: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    bins = (pooled_height, pooled_width)
    return _align([image], boxes, [spatial_scale], bins, sampling_ratio, aligned)


@register("multiscale_roi_align", "cpu", "cpu", FLOATING)
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
    bins, canonical = (pooled_height, pooled_width), (canonical_scale, canonical_level)
    return _align(features, boxes, scales, bins, sampling_ratio, aligned, canonical)


def _align(
    features: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    bins: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
    canonical: tuple[float, int] = (224.0, 4),
) -> Tensor:
    """One kernel call for all levels; ``canonical`` chooses among them if they are several."""
    images, channels = features[0].shape[:2]
    format = pyramid_format(features)
    features = as_pyramid(features)
    for each in features:
        height, width = each.shape[2:]
        _roi_sizes(images, channels, height, width, *bins)
    checked = _roi_boxes(boxes, images, features[0].dtype)
    levels = pyramid_levels(boxes, scales, *canonical) if len(scales) > 1 else None
    output = empty((checked.shape[0], channels, *bins), features[0].dtype, format)
    _C.roi_align(
        DTYPES[output.dtype],
        _native_levels(features, scales),
        checked.data_ptr(),
        0 if levels is None else levels.data_ptr(),
        output.data_ptr(),
        checked.shape[0],
        (images, channels, *bins),
        min(sampling_ratio, _MOST_SAMPLES),
        aligned,
        format == torch.channels_last,
        torch.get_num_threads(),
    )
    return output


@register("roi_align_backward", "cpu", "cpu", FLOATING)
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
    sizes = (batch_size, channels, height, width, pooled_height, pooled_width)
    return _align_backward(grad, boxes, [spatial_scale], [sizes], sampling_ratio, aligned)[0]


@register("multiscale_roi_align_backward", "cpu", "cpu", FLOATING)
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
    sizes = [
        (batch_size, channels, height, width, pooled_height, pooled_width)
        for height, width in zip(heights, widths, strict=True)
    ]
    canonical = (canonical_scale, canonical_level)
    return _align_backward(grad, boxes, scales, sizes, sampling_ratio, aligned, canonical)


def _align_backward(
    grad: Tensor,
    boxes: Tensor,
    scales: Sequence[float],
    sizes: Sequence[_RoiSizes],
    sampling_ratio: int,
    aligned: bool,
    canonical: tuple[float, int] = (224.0, 4),
) -> list[Tensor]:
    grad, format = _dense(grad)
    images, channels, _, _, *bins = sizes[0]
    checked = _roi_boxes(boxes, images, grad.dtype)
    for each in sizes:
        _roi_sizes(*each)
        check_grad("grad", grad, checked, channels, (each[4], each[5]))
    levels = pyramid_levels(boxes, scales, *canonical) if len(scales) > 1 else None
    grads = [empty(each[:4], grad.dtype, format) for each in sizes]
    _C.roi_align_backward(
        DTYPES[grad.dtype],
        grad.data_ptr(),
        checked.data_ptr(),
        0 if levels is None else levels.data_ptr(),
        _native_levels(grads, scales),
        checked.shape[0],
        (images, channels, bins[0], bins[1]),
        min(sampling_ratio, _MOST_SAMPLES),
        aligned,
        format == torch.channels_last,
        torch.get_num_threads(),
    )
    return grads


def _native_levels(
    maps: Sequence[Tensor], scales: Sequence[float]
) -> list[tuple[int, int, int, float]]:
    """Each level as the native module takes it: address, height, width, spatial scale."""
    pairs = zip(maps, scales, strict=True)
    return [(each.data_ptr(), each.shape[2], each.shape[3], scale) for each, scale in pairs]


@register("roi_pool", "cpu", "cpu", FLOATING)
def roi_pool(
    image: Tensor, boxes: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    image, format = _dense(image)
    boxes = _roi_boxes(boxes, image.shape[0], image.dtype)
    images, channels, height, width = image.shape
    sizes = _roi_sizes(images, channels, height, width, pooled_height, pooled_width)
    shape = (boxes.shape[0], image.shape[1], pooled_height, pooled_width)
    output = torch.empty(shape, dtype=image.dtype, memory_format=format)
    argmax = torch.empty(shape, dtype=torch.int32, memory_format=format)
    _C.roi_pool(
        DTYPES[image.dtype],
        image.data_ptr(),
        boxes.data_ptr(),
        output.data_ptr(),
        argmax.data_ptr(),
        boxes.shape[0],
        sizes,
        spatial_scale,
        format == torch.channels_last,
        torch.get_num_threads(),
    )
    return output, argmax


@register("roi_pool_backward", "cpu", "cpu", FLOATING)
def roi_pool_backward(
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
    grad, format = _dense(grad)
    argmax = argmax.to(torch.int32).contiguous(memory_format=format)
    boxes = _roi_boxes(boxes, batch_size, grad.dtype)
    sizes = _roi_sizes(batch_size, channels, height, width, pooled_height, pooled_width)
    check_grad("grad", grad, boxes, channels, (pooled_height, pooled_width))
    check_grad("argmax", argmax, boxes, channels, (pooled_height, pooled_width))
    image_grad = torch.empty(sizes[:4], dtype=grad.dtype, memory_format=format)
    _C.roi_pool_backward(
        DTYPES[grad.dtype],
        grad.data_ptr(),
        boxes.data_ptr(),
        argmax.data_ptr(),
        image_grad.data_ptr(),
        boxes.shape[0],
        sizes,
        format == torch.channels_last,
        torch.get_num_threads(),
    )
    return image_grad


def _dense(tensor: Tensor) -> tuple[Tensor, torch.memory_format]:
    """The tensor in channels-last if it is that already, else contiguous."""
    if layout_of(tensor) == "channels_last":
        return tensor, torch.channels_last
    return tensor.contiguous(), torch.contiguous_format


def _roi_boxes(boxes: Tensor, images: int, dtype: torch.dtype) -> Tensor:
    """Boxes in the type that the kernel computes coordinates in.

    Raises:
        ArgumentError: an image index is not a whole number in [0, images). The kernel would read
            outside the map.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ArgumentError(f"boxes must be boxes[K, 5], got {describe(boxes)}")
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    boxes = boxes.to(compute).contiguous()
    if boxes.shape[0] == 0:
        return boxes
    index = boxes[:, 0]
    low, high = torch.aminmax(index)
    if not (low >= 0 and high < images and torch.equal(index, index.trunc())):
        wrong = ~((index >= 0) & (index < images) & (index == index.trunc()))
        first = int(wrong.nonzero()[0])
        raise ArgumentError(
            f"boxes[:, 0] is the batch index of each box, whole numbers in [0, {images}) for a "
            f"batch of {images}; boxes[{first}, 0] is {index[first].item()}"
        )
    return boxes


def _roi_sizes(
    images: int, channels: int, height: int, width: int, pooled_height: int, pooled_width: int
) -> _RoiSizes:
    if height * width >= 2**31 or max(pooled_height, pooled_width) >= 2**28:
        raise ArgumentError(
            f"a map of {height} x {width} pixels with {pooled_height} x {pooled_width} bins is too "
            "large: expected fewer than 2**31 pixels and 2**28 bins each way"
        )
    if min(images, channels, height, width) < 0 or min(pooled_height, pooled_width) < 1:
        raise ArgumentError(
            f"sizes must not be negative and bins at least 1 each way: map is "
            f"{[images, channels, height, width]}, bins are {[pooled_height, pooled_width]}"
        )
    return images, channels, height, width, pooled_height, pooled_width
