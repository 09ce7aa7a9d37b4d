"""Where a call stands among those that benchmarks measure: its dtype, layout, kind and size.

The same as in the rows of ``cvperf/bench/problems``; a test holds every problem against them.
Ops that no benchmark measures are not in ``PLACES``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cvperf.backends.registry import layout_of

# torch.backends.cudnn.conv.fp32_precision, whose look-up costs more than the rest of a place.
_precision: Callable[[str, str], str] = torch._C._get_fp32_precision_getter


class Place(NamedTuple):
    """What a call is compared by.

    Attributes:
        dtype: the benchmark's name of it; ``"tf32"`` for a float32 convolution that may be
            multiplied as TensorFloat32, which no benchmark lets anyone do.
        layout: ``"contiguous"`` or ``"channels_last"``.
        kind: of convolution (``kind_of_convolution``); of other ops ``""``.
        size: operations, boxes or elements: ``Measurement.size``.
    """

    dtype: str
    layout: str
    kind: str
    size: float


def kind_of_convolution(weight: Sequence[int], groups: int) -> str:
    """Convolutions of which one size says nothing of another kind's: they are other kernels."""
    if groups > 1:
        return "depthwise" if weight[1] == 1 else "grouped"
    return "1x1" if weight[2] == weight[3] == 1 else "dense"


@functools.cache
def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _of_first(size: Callable[..., float]) -> Callable[..., Place]:
    """The dtype and layout are those of the op's first tensor."""

    def place(first: Any, *args: Any) -> Place:
        tensor = first if isinstance(first, Tensor) else first[0]
        return Place(_name(tensor.dtype), layout_of(tensor), "", size(first, *args))

    return place


def _convolution(image: Tensor, weight: Sequence[int], groups: int, flop: float) -> Place:
    dtype = image.dtype
    tf32 = dtype == torch.float32 and _precision("cuda", "conv") == "tf32"
    kind = kind_of_convolution(weight, groups)
    return Place("tf32" if tf32 else _name(dtype), layout_of(image), kind, flop)


def _flop(
    image: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> float:
    outputs = image[0]
    for i in (0, 1):
        reach = dilation[i] * (weight[2 + i] - 1) + 1
        outputs *= (image[2 + i] + 2 * padding[i] - reach) // stride[i] + 1
    return 2.0 * outputs * math.prod(weight)


def _conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *more: Any,
) -> Place:
    size = weight.shape
    return _convolution(image, size, groups, _flop(image.shape, size, stride, padding, dilation))


def _conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Place:
    size = weight.shape
    return _convolution(grad, size, groups, 2.0 * grad.numel() * math.prod(size[1:]))


def _conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Place:
    flop = 2.0 * grad.numel() * math.prod(weight_size[1:])
    return _convolution(grad, weight_size, groups, flop)


def _conv2d_int8(
    image: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    groups: int,
    scale_image: float,
    scale_weight: Tensor | None,
    zero_point: int,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *more: Any,
) -> Place:
    flop = _flop(image.shape, weight_size, stride, padding, dilation)
    return _convolution(image, weight_size, groups, flop)


def _roi_align(image: Tensor, boxes: Tensor, scale: float, ph: int, pw: int, *more: Any) -> float:
    return float(boxes.shape[0] * ph * pw * image.shape[1])


def _multiscale_roi_align(features: Sequence[Tensor], *args: Any) -> float:
    return _roi_align(features[0], *args)


def _elements(first: Tensor, *more: Any) -> float:
    return float(first.numel())


def _boxes(boxes: Tensor, *more: Any) -> float:
    return float(boxes.numel() // 4)


def _int8_gemm(a: Tensor, packed: Tensor, n: int, *more: Any) -> float:
    return 2.0 * a.numel() * n


def _int4_linear(x: Tensor, weight: Tensor, *more: Any) -> float:
    return 2.0 * x.numel() * weight.shape[0]


def _paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int, *more: Any) -> float:
    return float(masks.shape[0] * height * width)


def _dequantize(
    q: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None, dtype: torch.dtype
) -> Place:
    return Place(_name(dtype), layout_of(q), "", float(q.numel()))


def _normalize_image(
    image: Tensor, mean: object, std: object, dtype: torch.dtype, channels_last: bool
) -> Place:
    layout = "channels_last" if channels_last else "contiguous"
    return Place(_name(dtype), layout, "", float(image.numel()))


PLACES: dict[str, Callable[..., Place]] = {
    "conv2d": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "conv2d_weight_grad": _conv2d_weight_grad,
    "conv2d_int8": _conv2d_int8,
    "roi_align": _of_first(_roi_align),
    "roi_align_backward": _of_first(_elements),
    "multiscale_roi_align": _of_first(_multiscale_roi_align),
    "nms": _of_first(_boxes),
    "batched_nms": _of_first(_boxes),
    "nms_padded": _of_first(_boxes),
    "soft_nms": _of_first(_boxes),
    "int8_gemm": _of_first(_int8_gemm),
    "int4_linear": _of_first(_int4_linear),
    "paste_masks": _of_first(_paste_masks),
    "bias_activation": _of_first(_elements),
    "quantize": _of_first(_elements),
    "dequantize": _dequantize,
    "normalize_image": _normalize_image,
}
"""Op -> the place of a call, from the op's own arguments."""
