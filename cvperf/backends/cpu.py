"""The CPU backend: allocates outputs and hands pointers to the kernels in ``cvperf._C``.

Arguments have been checked by ``cvperf.ops``; here they are only made contiguous where a kernel
needs it. torch is imported before ``_C`` so that both share torch's OpenMP runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.registry import FLOATING, convolution_format, layout_of, register
from cvperf.errors import ArgumentError, describe

_DTYPES = {
    torch.float16: _C.DType.f16,
    torch.bfloat16: _C.DType.bf16,
    torch.float32: _C.DType.f32,
    torch.float64: _C.DType.f64,
    torch.int8: _C.DType.i8,
    torch.uint8: _C.DType.u8,
    torch.int32: _C.DType.i32,
}

# --- nms ------------------------------------------------------------------------------------------


@register("nms", "cpu", "cpu", FLOATING)
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, None, iou_threshold)


@register("batched_nms", "cpu", "cpu", FLOATING)
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return _nms(boxes, scores, idxs.to(torch.int64).contiguous(), iou_threshold)


def _nms(boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float) -> Tensor:
    boxes, scores = boxes.contiguous(), scores.contiguous()
    keep = torch.empty(scores.numel(), dtype=torch.int64)
    kept = _C.nms(
        boxes.data_ptr(),
        scores.data_ptr(),
        0 if idxs is None else idxs.data_ptr(),
        _DTYPES[boxes.dtype],
        scores.numel(),
        iou_threshold,
        keep.data_ptr(),
        torch.get_num_threads(),
    )
    # A copy, so that ten kept boxes do not hold the memory of ten thousand.
    return keep[:kept].clone()


# --- roi_align and roi_pool -----------------------------------------------------------------------


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
        _DTYPES[image.dtype],
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
        _DTYPES[grad.dtype],
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
        _DTYPES[image.dtype],
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
        _DTYPES[grad.dtype],
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


# --- int8_gemm ------------------------------------------------------------------------------------


@register("pack_int8", "cpu", "cpu", (torch.int8,))
def pack_int8(b: Tensor) -> Tensor:
    k, n = b.shape
    packed = torch.empty(_C.packed_int8_bytes(k, n), dtype=torch.uint8)
    _C.pack_int8(
        b.data_ptr(),
        k,
        n,
        b.stride(0),
        b.stride(1),
        packed.data_ptr(),
        torch.get_num_threads(),
    )
    return packed


@register("int8_gemm", "cpu", "cpu", (torch.int8, torch.uint8))
def int8_gemm(
    a: Tensor,
    b_packed: Tensor,
    n: int,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    zero_a: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    m, k = a.shape
    if k > 1 and a.stride(1) != 1:
        a = a.contiguous()
    out = torch.empty((m, n), dtype=out_dtype)
    # Kept until the kernel returns: their pointers are what it gets.
    b_packed = b_packed.contiguous()
    scale_a, scale_b, zero_a, bias = (
        None if vector is None else vector.contiguous()
        for vector in (scale_a, scale_b, zero_a, bias)
    )
    _C.int8_gemm(
        a.data_ptr(),
        _DTYPES[a.dtype],
        m,
        k,
        n,
        a.stride(0),
        b_packed.data_ptr(),
        0 if scale_a is None else scale_a.data_ptr(),
        scale_a is not None and scale_a.numel() > 1,
        0 if scale_b is None else scale_b.data_ptr(),
        scale_b is not None and scale_b.numel() > 1,
        0 if zero_a is None else zero_a.data_ptr(),
        zero_a is not None and zero_a.numel() > 1,
        0 if bias is None else bias.data_ptr(),
        getattr(_C.Activation, activation or "none"),
        out.data_ptr(),
        _DTYPES[out_dtype],
        torch.get_num_threads(),
    )
    return out


# --- conv2d ---------------------------------------------------------------------------------------


@register("conv2d", "cpu", "cpu", FLOATING)
def conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
) -> Tensor:
    format = convolution_format(image, weight)
    image = image.contiguous(memory_format=format)
    weight, weight_channels_last = _dense_weight(weight)
    window = _window(weight.shape, stride, padding, dilation)
    shape = _convolution_shape(image.shape, weight.shape, window)
    output = torch.empty(shape, dtype=image.dtype, memory_format=format)
    # Kept until the kernel returns: their pointers are what it gets.
    bias = None if bias is None else bias.contiguous()
    residual = None if residual is None else residual.contiguous(memory_format=format)
    _C.conv2d(
        image.data_ptr(),
        weight.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        output.data_ptr(),
        (*image.shape, *shape[1:]),
        window,
        groups,
        format == torch.channels_last,
        weight_channels_last,
        _DTYPES[image.dtype],
        getattr(_C.Activation, activation or "none"),
        torch.get_num_threads(),
    )
    return output


@register("conv2d_input_grad", "cpu", "cpu", FLOATING)
def conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    format = convolution_format(grad, weight)
    grad = grad.contiguous(memory_format=format)
    weight, weight_channels_last = _dense_weight(weight)
    window = _window(weight.shape, stride, padding, dilation)
    _check_convolution_grad(grad, input_size, weight.shape, window, groups)
    image_grad = torch.empty(tuple(input_size), dtype=grad.dtype, memory_format=format)
    _C.conv2d_input_grad(
        grad.data_ptr(),
        weight.data_ptr(),
        image_grad.data_ptr(),
        (*input_size, *grad.shape[1:]),
        window,
        groups,
        format == torch.channels_last,
        weight_channels_last,
        _DTYPES[grad.dtype],
        torch.get_num_threads(),
    )
    return image_grad


@register("conv2d_weight_grad", "cpu", "cpu", FLOATING)
def conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    format = convolution_format(image, grad)
    grad = grad.contiguous(memory_format=format)
    image = image.contiguous(memory_format=format)
    window = _window(weight_size, stride, padding, dilation)
    _check_convolution_grad(grad, image.shape, weight_size, window, groups)
    weight_grad = torch.empty(tuple(weight_size), dtype=grad.dtype, memory_format=format)
    _C.conv2d_weight_grad(
        grad.data_ptr(),
        image.data_ptr(),
        weight_grad.data_ptr(),
        (*image.shape, *grad.shape[1:]),
        window,
        groups,
        format == torch.channels_last,
        format == torch.channels_last,
        _DTYPES[grad.dtype],
        torch.get_num_threads(),
    )
    return weight_grad


_Window = tuple[int, int, int, int, int, int, int, int]


def _window(
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> _Window:
    """(kernel, stride, padding, dilation), each (vertical, horizontal)."""
    return (
        weight_size[2],
        weight_size[3],
        stride[0],
        stride[1],
        padding[0],
        padding[1],
        dilation[0],
        dilation[1],
    )


def _dense_weight(weight: Tensor) -> tuple[Tensor, bool]:
    """The weight in one of the two orders that the kernels read, and whether channels come last."""
    if layout_of(weight) == "channels_last":
        return weight, True
    return weight.contiguous(), False


def _convolution_shape(
    image: Sequence[int], weight: Sequence[int], window: _Window
) -> tuple[int, int, int, int]:
    sides = [
        (image[2 + i] + 2 * window[4 + i] - window[6 + i] * (window[i] - 1) - 1) // window[2 + i]
        + 1
        for i in (0, 1)
    ]
    return image[0], weight[0], max(sides[0], 0), max(sides[1], 0)


def _check_convolution_grad(
    grad: Tensor, image: Sequence[int], weight: Sequence[int], window: _Window, groups: int
) -> None:
    expected = _convolution_shape(image, weight, window)
    if tuple(grad.shape) != expected:
        raise ArgumentError(
            f"grad must have the output's shape {list(expected)}, got {describe(grad)}"
        )
    if image[1] != weight[1] * groups or weight[0] % groups:
        raise ArgumentError(
            f"channels do not fit: input is {list(image)}, weight is {list(weight)}, "
            f"groups is {groups}"
        )
