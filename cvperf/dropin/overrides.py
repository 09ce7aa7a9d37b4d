"""Which ops of torch and torchvision cvperf overrides, what serves them, and when it declines.

``refuse`` looks at a call before it is served. It declines what the kernel does not take, what the
original rejects (so that the caller sees the original's own error), and what the original runs
faster by the recorded crossover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.registry import FLOATING, layout_of, select
from cvperf.dropin import crossover
from cvperf.ops._convolution import output_shape

INVALID = "arguments that the kernels do not take; the original checks them"


@dataclass(frozen=True)
class Override:
    """One dispatcher override.

    Attributes:
        target: the op as torch names it, such as ``"torchvision::nms"``.
        serve: our function, with the target's arguments.
        refuse: why the original runs instead, with the target's arguments; None to serve.
        why: what ``explain()`` says of a served call.
    """

    target: str
    serve: Callable[..., Any]
    refuse: Callable[..., str | None]
    why: str

    @property
    def needs_torchvision(self) -> bool:
        return self.target.startswith("torchvision::")


def _float_cpu(*tensors: Tensor) -> bool:
    first = tensors[0]
    return first.dtype in FLOATING and all(
        t.device.type == "cpu" and t.dtype == first.dtype and t.layout == torch.strided
        for t in tensors
    )


# --- nms ------------------------------------------------------------------------------------------


def _serve_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    kernel = select("nms", "cpu", boxes.dtype)
    return kernel.function(boxes, scores, iou_threshold)


def _refuse_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> str | None:
    fits = (
        boxes.dim() == 2
        and boxes.shape[1] == 4
        and scores.shape == boxes.shape[:1]
        and _float_cpu(boxes, scores)
        and iou_threshold == iou_threshold
    )
    return None if fits else INVALID


# --- roi_align and roi_pool -----------------------------------------------------------------------


def _serve_roi(op: str) -> Callable[..., Any]:
    def serve(image: Tensor, boxes: Tensor, *args: Any) -> Any:
        return select(op, "cpu", image.dtype, layout_of(image)).function(image, boxes, *args)

    return serve


def _refuse_roi(image: Tensor, boxes: Tensor, *args: Any) -> str | None:
    fits = (
        image.dim() == 4 and boxes.dim() == 2 and boxes.shape[1] == 5 and _float_cpu(image, boxes)
    )
    return None if fits else INVALID


def _refuse_roi_pool_backward(
    grad: Tensor, boxes: Tensor, argmax: Tensor, *args: Any
) -> str | None:
    return _refuse_roi(grad, boxes)


# --- convolution ----------------------------------------------------------------------------------


def _serve_convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *flags: bool,
) -> Tensor:
    kernel = select("conv2d", "cpu", image.dtype, layout_of(image))
    return kernel.function(image, weight, bias, stride, padding, dilation, groups, None, None)


def _refuse_convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *flags: bool,
) -> str | None:
    tensors = (image, weight) if bias is None else (image, weight, bias)
    refusal = _unfit(tensors, stride, padding, dilation, transposed, groups)
    if refusal is None and bias is not None and bias.shape != weight.shape[:1]:
        return INVALID
    return refusal or crossover.conv2d(image, weight, stride, padding, dilation, groups)


def _unfit(
    tensors: Sequence[Tensor],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    groups: int,
) -> str | None:
    """Why the kernels do not take this convolution; ``tensors`` begin with image and weight."""
    image, weight = tensors[:2]
    if image.dim() != 4 or weight.dim() != 4:
        return "not a 2-D convolution"
    if transposed:
        return "transposed convolution"
    fits = (
        _float_cpu(*tensors)
        and len(stride) == len(padding) == len(dilation) == 2
        and min(*stride, *dilation, groups, *weight.shape) > 0
        and min(padding) >= 0
        and image.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and min(output_shape(image, weight, stride, padding, dilation)[2:]) > 0
    )
    return None if fits else INVALID


def _serve_convolution_backward(
    grad: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    layout = layout_of(image)
    geometry = (stride, padding, dilation, groups)
    image_grad = weight_grad = bias_grad = None
    if output_mask[0]:
        kernel = select("conv2d_input_grad", "cpu", image.dtype, layout)
        image_grad = kernel.function(grad, weight, image.shape, *geometry)
    if output_mask[1]:
        kernel = select("conv2d_weight_grad", "cpu", image.dtype, layout)
        weight_grad = kernel.function(grad, image, weight.shape, *geometry)
    if output_mask[2]:
        bias_grad = grad.sum((0, 2, 3))
    return image_grad, weight_grad, bias_grad


def _refuse_convolution_backward(
    grad: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> str | None:
    refusal = _unfit((image, weight, grad), stride, padding, dilation, transposed, groups)
    return refusal or crossover.conv2d_backward(image, groups)


_FASTER = "faster than the original by the recorded crossover"

OVERRIDES: dict[str, tuple[Override, ...]] = {
    "nms": (Override("torchvision::nms", _serve_nms, _refuse_nms, _FASTER),),
    "roi_align": (
        Override("torchvision::roi_align", _serve_roi("roi_align"), _refuse_roi, _FASTER),
        Override(
            "torchvision::_roi_align_backward",
            _serve_roi("roi_align_backward"),
            _refuse_roi,
            "faster than the original, and deterministic",
        ),
    ),
    "roi_pool": (
        Override("torchvision::roi_pool", _serve_roi("roi_pool"), _refuse_roi, _FASTER),
        Override(
            "torchvision::_roi_pool_backward",
            _serve_roi("roi_pool_backward"),
            _refuse_roi_pool_backward,
            "faster than the original, and deterministic",
        ),
    ),
    "conv2d": (
        Override("aten::convolution", _serve_convolution, _refuse_convolution, _FASTER),
        # What torch.jit.trace records in place of aten::convolution.
        Override("aten::_convolution", _serve_convolution, _refuse_convolution, _FASTER),
        Override(
            "aten::convolution_backward",
            _serve_convolution_backward,
            _refuse_convolution_backward,
            _FASTER,
        ),
    ),
}

NAMES = tuple(OVERRIDES)
