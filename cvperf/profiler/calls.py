"""From a recorded op call to its arguments, and to the shape that says what it computes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from cvperf.backends.registry import convolution_format, layout_of
from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import ConvolutionShape, InputGradShape, WeightGradShape
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.problems.nms import NmsShape
from cvperf.bench.problems.roi_align import RoiAlignBackwardShape, RoiAlignShape
from cvperf.bench.shapes import full_name
from cvperf.profiler.trace import Arguments

FAMILIES = {
    "aten::convolution": "convolution",
    "aten::_convolution": "convolution",
    "aten::convolution_backward": "convolution backward",
    "torchvision::nms": "NMS",
    "torchvision::roi_align": "RoI Align",
    "torchvision::_roi_align_backward": "RoI Align backward",
    "torchvision::roi_pool": "RoI pooling",
    "torchvision::_roi_pool_backward": "RoI pooling backward",
    "aten::_int_mm": "INT8 GEMM",
}
"""Ops that cvperf has kernels for -> what they are called here. Time inside one is that op's."""

_DTYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "c10::Half": torch.float16,
    "c10::BFloat16": torch.bfloat16,
    "signed char": torch.int8,
    "unsigned char": torch.uint8,
    "short": torch.int16,
    "short int": torch.int16,
    "int": torch.int32,
    "long": torch.int64,
    "long int": torch.int64,
    "bool": torch.bool,
}
"""The profiler's names of element types."""

_Conv = TypeVar("_Conv", bound=ConvolutionShape)
_Roi = TypeVar("_Roi", bound=RoiAlignShape)


def values(arguments: Arguments, device: str = "cpu") -> list[Any]:
    """The call's arguments again: tensors of the same size, strides and dtype, never written to.

    Raises:
        ValueError: the trace does not say what an argument was.
    """
    parts = (arguments.types, arguments.dims, arguments.strides, arguments.concrete)
    if len({len(part) for part in parts}) != 1:
        raise ValueError("the trace has no strides or scalars: record it with record_shapes=True")
    return [_value(*part, device) for part in zip(*parts, strict=True)]


def _value(kind: str, dims: Any, strides: Any, concrete: str, device: str) -> Any:
    if kind in _DTYPES:
        return torch.empty_strided(dims, strides, dtype=_DTYPES[kind], device=device)
    if kind in ("Scalar", "ScalarList"):
        try:
            return ast.literal_eval(concrete)
        except SyntaxError as error:
            raise ValueError(f"{concrete!r} is no number and no list") from error
    if kind == "":
        return None
    raise ValueError(f"arguments of type {kind!r} are not recorded")


def shapes(op: str, arguments: Sequence[Any]) -> tuple[Shape, ...]:
    """The call as shapes of ``cvperf.bench.problems``: one, or two for a convolution's gradients.

    Empty where there is no such shape: a 1-D or 3-D convolution, an op that is not in FAMILIES, a
    call without boxes.
    """
    maker = _MAKERS.get(op)
    return maker(*arguments) if maker is not None else ()


def _convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *flags: bool,
) -> tuple[Shape, ...]:
    if image.dim() != 4 or image.numel() == 0:
        return ()
    geometry = (stride, padding, dilation, groups)
    if not transposed:
        return (_conv(ConvolutionShape, image, image.shape, weight, bias is not None, geometry),)
    # A transposed convolution computes the image gradient of a convolution the other way round.
    sides = [
        (i - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for i, s, p, d, k, extra in zip(
            image.shape[2:],
            *(stride, padding, dilation, weight.shape[2:], output_padding),
            strict=True,
        )
    ]
    size = (image.shape[0], weight.shape[1] * groups, *sides)
    return (_conv(InputGradShape, image, size, weight, bias is not None, geometry),)


def _convolution_backward(
    grad: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> tuple[Shape, ...]:
    if image.dim() != 4 or transposed or image.numel() == 0:
        return ()
    geometry = (stride, padding, dilation, groups)
    kinds: tuple[type[ConvolutionShape], ...] = (InputGradShape, WeightGradShape)
    return tuple(
        _conv(kind, image, image.shape, weight, bool(bias_sizes), geometry)
        for kind, wanted in zip(kinds, output_mask, strict=False)
        if wanted
    )


def _conv(
    kind: type[_Conv],
    image: Tensor,
    size: Sequence[int],
    weight: Tensor,
    bias: bool,
    geometry: tuple[list[int], list[int], list[int], int],
) -> _Conv:
    stride, padding, dilation, groups = geometry
    (n, c, h, w), (o, _, kh, kw) = size, weight.shape
    last = convolution_format(image, weight) == torch.channels_last
    shape = kind(
        name="",
        n=n,
        c=c,
        h=h,
        w=w,
        o=o,
        kernel=(kh, kw),
        stride=(stride[0], stride[1]),
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
        bias=bias,
        dtype=_name(image.dtype),
        layout="channels_last" if last else "contiguous",
    )
    return replace(shape, name=full_name(shape))


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> tuple[Shape, ...]:
    if boxes.shape[0] == 0:
        return ()
    # The trace has no values, so how the boxes lie is not known. Proposals are clustered.
    shape = NmsShape(
        name=f"{boxes.shape[0]} boxes",
        boxes=boxes.shape[0],
        arrangement="clustered",
        iou_threshold=iou_threshold,
        dtype=_name(boxes.dtype),
    )
    return (replace(shape, name=full_name(shape)),)


def _roi_align(
    features: Tensor,
    boxes: Tensor,
    scale: float,
    height: int,
    width: int,
    ratio: int,
    aligned: bool,
) -> tuple[Shape, ...]:
    call = (boxes, scale, height, width, ratio, aligned)
    return _roi(RoiAlignShape, features, features.shape, *call)


def _roi_align_backward(
    grad: Tensor,
    boxes: Tensor,
    scale: float,
    height: int,
    width: int,
    n: int,
    c: int,
    h: int,
    w: int,
    ratio: int,
    aligned: bool,
) -> tuple[Shape, ...]:
    call = (boxes, scale, height, width, ratio, aligned)
    return _roi(RoiAlignBackwardShape, grad, (n, c, h, w), *call)


def _roi(
    kind: type[_Roi],
    like: Tensor,
    size: Sequence[int],
    boxes: Tensor,
    scale: float,
    height: int,
    width: int,
    ratio: int,
    aligned: bool,
) -> tuple[Shape, ...]:
    count = boxes.shape[0]
    if count == 0 or ratio <= 0:
        return ()  # with ratio 0 the samples depend on the boxes' sizes, which are not recorded
    n, c, h, w = size
    shape = kind(
        name=f"{count} boxes {height}x{width} of {c}x{h}x{w}",
        n=n,
        c=c,
        h=h,
        w=w,
        boxes=count,
        output_size=(height, width),
        spatial_scale=scale,
        sampling_ratio=ratio,
        aligned=aligned,
        dtype=_name(like.dtype),
        layout=layout_of(like),
    )
    return (replace(shape, name=full_name(shape)),)


def _int_mm(a: Tensor, b: Tensor) -> tuple[Shape, ...]:
    (m, k), n = a.shape, b.shape[1]
    return (Int8GemmShape(name=f"{m}x{n}x{k}", m=m, n=n, k=k),)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_MAKERS: dict[str, Callable[..., tuple[Shape, ...]]] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "torchvision::nms": _nms,
    "torchvision::roi_align": _roi_align,
    "torchvision::_roi_align_backward": _roi_align_backward,
    "aten::_int_mm": _int_mm,
}
