"""Pooling on the CPU: native calls for channels-last images, by torch's rules."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.images import BYTES, FLOATS, Shape, check_dtype, check_image
from cvperf.errors import ArgumentError

_Window = tuple[int, int, int, int, int, int, int, int]

# Sums of bytes are int32.
MOST_BYTES = 2**23 - 1


def max_pool2d_call(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    dtype: torch.dtype,
) -> tuple[_C.Call, Shape]:
    """The call that pools an image [N, C, H, W] of floats or bytes, and its output's size.

    Pairs are (vertical, horizontal); an empty ``stride`` is the kernel's size, as in torch.

    Raises:
        ArgumentError: the dtype is not served, or torch refuses such a layer.
    """
    check_dtype("image", dtype, (*FLOATS, *BYTES))
    window = _window_of(kernel, stride, padding, dilation)
    shape = pooled_shape(image, window, ceil_mode)
    return _C.MaxPool2dCall((*image, *shape[2:]), window, DTYPES[dtype]), shape


def avg_pool2d_call(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dtype: torch.dtype,
) -> tuple[_C.Call, Shape]:
    """The call that averages windows of an image [N, C, H, W] of floats, and its output's size.

    Sums are float32 whatever the dtype. Pairs and errors as for ``max_pool2d_call``.
    """
    check_dtype("image", dtype, FLOATS)
    window, shape, divisor = _averages(image, kernel, stride, padding, ceil_mode, divisor_override)
    sizes = (*image, *shape[2:])
    return _C.AvgPool2dCall(sizes, window, count_include_pad, divisor, DTYPES[dtype]), shape


def avg_pool2d_int8_call(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    dtype: torch.dtype,
    scale: float,
    zero_point: int,
    scale_output: float,
    zero_point_output: int,
    out_dtype: torch.dtype,
) -> tuple[_C.Call, Shape]:
    """As ``avg_pool2d_call`` for an image of bytes that stand for ``(q - zero_point) * scale``.

    Padding stands for 0. The output is floats, or bytes: the mean over ``scale_output``, rounded
    half to even, plus ``zero_point_output``, saturated.
    """
    check_dtype("image", dtype, BYTES)
    check_dtype("output", out_dtype, (*FLOATS, *BYTES))
    window, shape, divisor = _averages(image, kernel, stride, padding, ceil_mode, divisor_override)
    _check_bytes(min(window[0], image[2]) * min(window[1], image[3]))
    call = _C.AvgPool2dInt8Call(
        (*image, *shape[2:]),
        window,
        count_include_pad,
        divisor,
        DTYPES[dtype],
        scale,
        zero_point,
        1.0 / scale_output,
        zero_point_output,
        DTYPES[out_dtype],
    )
    return call, shape


def adaptive_avg_pool2d_call(
    image: Sequence[int], output_size: Sequence[int | None], dtype: torch.dtype
) -> tuple[_C.Call, Shape]:
    """The call that averages an image [N, C, H, W] of floats in bins, and its output's size.

    Bin i of n is from floor(i * H / n) to ceil((i + 1) * H / n); a size of None is the image's.
    """
    check_dtype("image", dtype, FLOATS)
    shape = _adaptive_shape(image, output_size)
    return _C.AdaptiveAvgPool2dCall((*image, *shape[2:]), DTYPES[dtype]), shape


def adaptive_avg_pool2d_int8_call(
    image: Sequence[int],
    output_size: Sequence[int | None],
    dtype: torch.dtype,
    scale: float,
    zero_point: int,
    scale_output: float,
    zero_point_output: int,
    out_dtype: torch.dtype,
) -> tuple[_C.Call, Shape]:
    """``adaptive_avg_pool2d_call`` for bytes, which are as ``avg_pool2d_int8_call`` has them."""
    check_dtype("image", dtype, BYTES)
    check_dtype("output", out_dtype, (*FLOATS, *BYTES))
    shape = _adaptive_shape(image, output_size)
    _check_bytes(image[2] * image[3])
    call = _C.AdaptiveAvgPool2dInt8Call(
        (*image, *shape[2:]),
        DTYPES[dtype],
        scale,
        zero_point,
        1.0 / scale_output,
        zero_point_output,
        DTYPES[out_dtype],
    )
    return call, shape


def pooled_shape(image: Sequence[int], window: _Window, ceil_mode: bool) -> Shape:
    """Size of the output.

    Raises:
        ArgumentError: the window does not fit the image, or is none.
    """
    kernel, stride, padding, dilation = (window[i : i + 2] for i in (0, 2, 4, 6))
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise ArgumentError(
            f"kernel, stride and dilation must be 1 or more and padding 0 or more, got "
            f"{list(kernel)}, {list(stride)}, {list(dilation)} and {list(padding)}"
        )
    if any(2 * padding[i] > kernel[i] for i in (0, 1)):
        raise ArgumentError(
            f"padding must be half of the kernel at most, got padding {list(padding)} and kernel "
            f"{list(kernel)}; pad the image itself"
        )
    check_image(image)
    sides = []
    for i in (0, 1):
        room = image[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1
        side = (room + (stride[i] - 1 if ceil_mode else 0)) // stride[i] + 1
        # A window that would start beyond the image and the padding before it is left out.
        if ceil_mode and (side - 1) * stride[i] >= image[2 + i] + padding[i]:
            side -= 1
        sides.append(side)
    if min(sides) < 1:
        raise ArgumentError(
            f"the window does not fit: input is {list(image)}, kernel {list(kernel)}, padding "
            f"{list(padding)}, dilation {list(dilation)}; the output would be {sides}"
        )
    return image[0], image[1], sides[0], sides[1]


def _window_of(
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> _Window:
    step = stride or kernel
    return (
        *(kernel[0], kernel[1], step[0], step[1]),
        *(padding[0], padding[1], dilation[0], dilation[1]),
    )


def _averages(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    divisor_override: int | None,
) -> tuple[_Window, Shape, int]:
    """Window, output's size, and what the native call takes for the divisor."""
    if divisor_override == 0:
        raise ArgumentError("divisor_override is 0; expected another integer, or None")
    window = _window_of(kernel, stride, padding, (1, 1))
    return window, pooled_shape(image, window, ceil_mode), divisor_override or 0


def _adaptive_shape(image: Sequence[int], output_size: Sequence[int | None]) -> Shape:
    check_image(image)
    height, width = (image[2 + i] if side is None else side for i, side in enumerate(output_size))
    if min(height, width) < 0:
        raise ArgumentError(f"output_size must be 0 or more, got {list(output_size)}")
    return image[0], image[1], height, width


def _check_bytes(count: int) -> None:
    if count > MOST_BYTES:
        raise ArgumentError(
            f"a window of bytes must have {MOST_BYTES} at most, got {count}; average floats"
        )
