"""RoI Align and RoI pooling on the CPU, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.registry import FLOATING, layout_of, register
from cvperf.errors import ArgumentError, describe


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
    image, format = _dense(image)
    boxes = _roi_boxes(boxes, image.shape[0], image.dtype)
    images, channels, height, width = image.shape
    sizes = _roi_sizes(images, channels, height, width, pooled_height, pooled_width)
    output = torch.empty(
        (boxes.shape[0], image.shape[1], pooled_height, pooled_width),
        dtype=image.dtype,
        memory_format=format,
    )
    _C.roi_align(
        DTYPES[image.dtype],
        image.data_ptr(),
        boxes.data_ptr(),
        output.data_ptr(),
        boxes.shape[0],
        sizes,
        spatial_scale,
        min(sampling_ratio, 46340),
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
    grad, format = _dense(grad)
    boxes = _roi_boxes(boxes, batch_size, grad.dtype)
    sizes = _roi_sizes(batch_size, channels, height, width, pooled_height, pooled_width)
    _check_roi_grad("grad", grad, boxes, sizes)
    image_grad = torch.empty(sizes[:4], dtype=grad.dtype, memory_format=format)
    _C.roi_align_backward(
        DTYPES[grad.dtype],
        grad.data_ptr(),
        boxes.data_ptr(),
        image_grad.data_ptr(),
        boxes.shape[0],
        sizes,
        spatial_scale,
        min(sampling_ratio, 46340),
        aligned,
        format == torch.channels_last,
        torch.get_num_threads(),
    )
    return image_grad


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
    _check_roi_grad("grad", grad, boxes, sizes)
    _check_roi_grad("argmax", argmax, boxes, sizes)
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


_RoiSizes = tuple[int, int, int, int, int, int]


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


def _check_roi_grad(name: str, grad: Tensor, boxes: Tensor, sizes: _RoiSizes) -> None:
    expected = (boxes.shape[0], sizes[1], sizes[4], sizes[5])
    if tuple(grad.shape) != expected:
        raise ArgumentError(
            f"{name} must be [boxes, channels, bins, bins] = {list(expected)}, got {describe(grad)}"
        )
