"""Convolution on the CPU, forward and both gradients."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.memory import empty
from cvperf.backends.cpu.run import run
from cvperf.backends.registry import FLOATING, convolution_format, layout_of, register
from cvperf.errors import ArgumentError, describe


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
    packed: Tensor | None = None,
    algorithm: str = "automatic",
) -> Tensor:
    call, read, shape = plan(
        *(image, weight, bias, stride, padding, dilation),
        *(groups, activation, residual, packed, algorithm),
    )
    format = convolution_format(image, weight)
    return run(call, read, empty(shape, image.dtype, format))


def plan(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
    packed: Tensor | None,
    algorithm: str,
) -> tuple[_C.Conv2dCall, tuple[Tensor | None, ...], tuple[int, int, int, int]]:
    """The native call, what it reads, and its output's size."""
    format = convolution_format(image, weight)
    channels_last = format == torch.channels_last
    image = image.contiguous(memory_format=format)
    weight, weight_channels_last = _dense_weight(weight)
    call, shape = prepare(
        (tuple(image.shape), tuple(weight.shape), tuple(stride), tuple(padding), tuple(dilation)),
        groups,
        channels_last,
        weight_channels_last,
        image.dtype,
        activation,
        algorithm,
    )
    bias = None if bias is None else bias.contiguous()
    residual = None if residual is None else residual.contiguous(memory_format=format)
    return call, (image, weight, packed if channels_last else None, bias, residual), shape


@functools.lru_cache(maxsize=4096)
def prepare(
    geometry: tuple[tuple[int, ...], ...],
    groups: int,
    channels_last: bool,
    weight_channels_last: bool,
    dtype: torch.dtype,
    activation: str | None,
    algorithm: str,
) -> tuple[_C.Conv2dCall, tuple[int, int, int, int]]:
    """The native call for (image, weight, stride, padding, dilation), and its output's size."""
    image, weight, stride, padding, dilation = geometry
    window = window_of(weight, stride, padding, dilation)
    shape = convolution_shape(image, weight, window)
    call = _C.Conv2dCall(
        (*image, *shape[1:]),
        window,
        groups,
        channels_last,
        weight_channels_last,
        DTYPES[dtype],
        _ACTIVATIONS[activation or "none"],
        _ALGORITHMS[algorithm],
    )
    return call, shape


_ACTIVATIONS = dict(_C.Activation.__members__)
_ALGORITHMS = dict(_C.Algorithm.__members__)


def algorithm_for(
    image: Sequence[int],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wanted: str,
) -> str:
    """The algorithm that runs this channels-last layer by rule when ``wanted`` is a policy.

    Raises:
        ValueError: ``wanted`` is an algorithm that does not take this layer.
    """
    window = window_of(weight.shape, stride, padding, dilation)
    sizes = (*image, *convolution_shape(image, weight.shape, window)[1:])
    chosen = _C.conv2d_algorithm(
        sizes, window, groups, True, DTYPES[weight.dtype], _ALGORITHMS[wanted]
    )
    return chosen.name


def fits_winograd(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether Winograd's algorithm takes such a layer (of any dtype but float64)."""
    return (*kernel, *stride, *dilation) == (3, 3, 1, 1, 1, 1)


def pack(weight: Tensor, dilation: Sequence[int], groups: int, algorithm: str) -> Tensor | None:
    """The weight as the kernel of an algorithm reads it; None if it reads the weight as it is.

    The form belongs to the instruction set in use. It does not depend on stride and padding.
    """
    weight, channels_last = _dense_weight(weight)
    filters, channels, height, width = weight.shape
    # The form does not depend on the image: any that the kernel fits in will do.
    sizes = (1, channels * groups, height, width, filters, 1, 1)
    window = (height, width, 1, 1, 0, 0, *dilation)
    dtype, kind = DTYPES[weight.dtype], _ALGORITHMS[algorithm]
    size = _C.conv2d_packed_bytes(sizes, window, groups, channels_last, dtype, kind)
    if size == 0:
        return None
    packed = torch.empty(size, dtype=torch.uint8)
    _C.conv2d_pack(
        weight.data_ptr(),
        packed.data_ptr(),
        sizes,
        window,
        groups,
        channels_last,
        dtype,
        kind,
        torch.get_num_threads(),
    )
    return packed


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
    window = window_of(weight.shape, stride, padding, dilation)
    check_convolution_grad(grad, input_size, weight.shape, window, groups)
    image_grad = empty(tuple(input_size), grad.dtype, format)
    _C.conv2d_input_grad(
        grad.data_ptr(),
        weight.data_ptr(),
        image_grad.data_ptr(),
        (*input_size, *grad.shape[1:]),
        window,
        groups,
        format == torch.channels_last,
        weight_channels_last,
        DTYPES[grad.dtype],
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
    window = window_of(weight_size, stride, padding, dilation)
    check_convolution_grad(grad, image.shape, weight_size, window, groups)
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
        DTYPES[grad.dtype],
        torch.get_num_threads(),
    )
    return weight_grad


def conv_transpose2d_call(
    image: Sequence[int],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> tuple[_C.Call, tuple[int, int, int, int]]:
    """The call of a transposed convolution of a channels-last image, and its output's size.

    It is the input gradient of the convolution with this weight, [C, O / groups, kh, kw]. The call
    reads image and weight.

    Raises:
        ArgumentError: the sizes do not fit, or the output would be empty.
    """
    window = window_of(weight.shape, stride, padding, dilation)
    height, width = (
        (image[2 + i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (weight.shape[2 + i] - 1)
        + output_padding[i]
        + 1
        for i in (0, 1)
    )
    shape = (image[0], weight.shape[1] * groups, height, width)
    fits = convolution_shape(shape, weight.shape, window) == tuple(image)
    if not fits or min(height, width) < 1:
        raise ArgumentError(
            f"a transposed convolution of {list(image)} with weight {describe(weight)}, stride "
            f"{list(stride)}, padding {list(padding)} and output_padding {list(output_padding)} "
            f"would give {list(shape)}"
        )
    sizes = (*shape, *image[1:])
    last = layout_of(weight) == "channels_last"
    dtype = DTYPES[weight.dtype]
    return _C.Conv2dInputGradCall(sizes, window, groups, True, last, dtype), shape


_Window = tuple[int, int, int, int, int, int, int, int]


def window_of(
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


def convolution_shape(
    image: Sequence[int], weight: Sequence[int], window: _Window
) -> tuple[int, int, int, int]:
    """Sizes of the output, from those of image and weight; no side is negative."""
    sides = [
        (image[2 + i] + 2 * window[4 + i] - window[6 + i] * (window[i] - 1) - 1) // window[2 + i]
        + 1
        for i in (0, 1)
    ]
    return image[0], weight[0], max(sides[0], 0), max(sides[1], 0)


def check_convolution_grad(
    grad: Tensor, image: Sequence[int], weight: Sequence[int], window: _Window, groups: int
) -> None:
    expected = convolution_shape(image, weight, window)
    if tuple(grad.shape) != expected:
        raise ArgumentError(
            f"grad must have the output's shape {list(expected)}, got {describe(grad)}"
        )
    if image[1] != weight[1] * groups or weight[0] % groups:
        raise ArgumentError(
            f"channels do not fit: input is {list(image)}, weight is {list(weight)}, "
            f"groups is {groups}"
        )
