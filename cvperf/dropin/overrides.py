"""Which ops of torch and torchvision cvperf overrides, what serves them, and when it declines.

A call is looked at before it is served. ``unfit`` declines what the kernel does not take and what
the original rejects (so that the caller sees the original's own error); ``slower`` what the
original runs faster by the recorded crossover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import fits_winograd
from cvperf.backends.registry import FLOATING, convolution_format, layout_of, select
from cvperf.dropin import crossover
from cvperf.ops._convolution import output_shape

_is_lazy_copy: Callable[[Tensor], bool] = torch._C._is_cow_tensor  # type: ignore[attr-defined]

INVALID = "arguments that the kernels do not take; the original checks them"


@dataclass(frozen=True)
class Override:
    """One dispatcher override.

    Attributes:
        target: the op as torch names it, such as ``"torchvision::nms"``.
        serve: our function, with the target's arguments.
        unfit: why our function cannot take these arguments; None if it can.
        why: what ``explain()`` says of a served call.
        slower: why the original is expected to be faster; None if ours is.
        contenders: kind of call, and our ways to run it, for ``backends/tuning.py`` to choose from
            in place of ``slower``.
    """

    target: str
    serve: Callable[..., Any]
    unfit: Callable[..., str | None]
    why: str
    slower: Callable[..., str | None] = lambda *args: None
    contenders: Callable[..., tuple[str, dict[str, Callable[[], Any]]]] | None = None

    def refuse(self, *args: Any) -> str | None:
        """Why the original runs these arguments by rule; None if ours does."""
        return self.unfit(*args) or self.slower(*args)

    @property
    def needs_torchvision(self) -> bool:
        return self.target.startswith("torchvision::")


def _float_cpu(*tensors: Tensor) -> bool:
    first = tensors[0]
    return first.dtype in FLOATING and all(
        t.device.type == "cpu"
        and t.dtype == first.dtype
        and t.layout == torch.strided
        and not _is_lazy_copy(t)  # taking its address would make the copy
        for t in tensors
    )


# --- nms ------------------------------------------------------------------------------------------


def _serve_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    kernel = select("nms", "cpu", boxes.dtype)
    return kernel.function(boxes, scores, iou_threshold)


def _unfit_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> str | None:
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
        output = select(op, "cpu", image.dtype, layout_of(image)).function(image, boxes, *args)
        if isinstance(output, tuple):
            return tuple(_planar(each) for each in output)
        return _planar(output)

    return serve


def _serve_pooling(op: str) -> Callable[..., Any]:
    serve = _serve_roi(op)

    def pooling(
        image: Tensor, boxes: Tensor, spatial_scale: float, height: int, width: int, *args: Any
    ) -> Any:
        if image.numel() < boxes.shape[0] * image.shape[1] * height * width:
            image = image.contiguous()  # less to turn than in the answer
        return serve(image, boxes, spatial_scale, height, width, *args)

    return pooling


def _planar(output: Tensor) -> Tensor:
    """As the originals and their fake kernels: contiguous, whatever the layout of the image.

    Code that torch.compile made stops at any other layout, and view() may.
    """
    if output.numel() == 0:  # contiguous in every layout, so contiguous() keeps its strides
        return output.new_empty(output.shape)
    return output.contiguous()


def _unfit_roi(
    image: Tensor, boxes: Tensor, spatial_scale: float, height: int, width: int, *args: Any
) -> str | None:
    fits = (
        image.dim() == 4
        and boxes.dim() == 2
        and boxes.shape[1] == 5
        and _float_cpu(image, boxes)
        and min(height, width) > 0
    )
    return None if fits else INVALID


def _unfit_roi_pool_backward(grad: Tensor, boxes: Tensor, argmax: Tensor, *args: Any) -> str | None:
    return _unfit_roi(grad, boxes, *args)


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


def _unfit_convolution(
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
    refusal = _unfit(tensors, stride, padding, dilation, transposed, output_padding, groups)
    if refusal is None and bias is not None and bias.shape != weight.shape[:1]:
        return INVALID
    return refusal


def _slower_convolution(
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
    return crossover.conv2d(image, weight, stride, padding, dilation, groups)


def _convolution_contenders(
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
) -> tuple[str, dict[str, Callable[[], Any]]]:
    arguments = (image, weight, bias, stride, padding, dilation, groups, None, None, None)
    kernel = select("conv2d", "cpu", image.dtype, layout_of(image))
    layout = str(convolution_format(image, weight)).removeprefix("torch.")
    dtype = str(image.dtype).removeprefix("torch.")
    kind = (
        f"conv2d {dtype} {layout} {list(image.shape)} {list(weight.shape)} bias={bias is not None} "
        f"stride={list(stride)} padding={list(padding)} dilation={list(dilation)} groups={groups}"
    )
    algorithms = ["direct"]
    if image.dtype != torch.float64 and fits_winograd(weight.shape[2:], stride, dilation):
        algorithms += ["winograd2", "winograd4"]
    return kind, {name: partial(kernel.function, *arguments, name) for name in algorithms}


def _unfit(
    tensors: Sequence[Tensor],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
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
        and len(output_padding) in (1, 2)
        and min(*stride, *dilation, groups, *weight.shape) > 0
        and min(*padding, *output_padding) >= 0
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
    # As the original: the layout of image and weight decides that of the gradients. The kernels go
    # by their own arguments, of which one with a single channel has any layout.
    format = convolution_format(image, weight)
    grad = grad.contiguous(memory_format=format)
    layout = layout_of(image)
    geometry = (stride, padding, dilation, groups)
    image_grad = weight_grad = bias_grad = None
    if output_mask[0]:
        kernel = select("conv2d_input_grad", "cpu", image.dtype, layout)
        image_grad = kernel.function(grad, weight, image.shape, *geometry)
        image_grad = image_grad.contiguous(memory_format=format)
    if output_mask[1]:
        kernel = select("conv2d_weight_grad", "cpu", image.dtype, layout)
        weight_grad = kernel.function(grad, image, weight.shape, *geometry)
        weight_grad = weight_grad.contiguous(memory_format=format)
    if output_mask[2]:
        bias_grad = grad.sum((0, 2, 3))
    return image_grad, weight_grad, bias_grad


def _unfit_convolution_backward(
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
    tensors = (image, weight, grad)
    refusal = _unfit(tensors, stride, padding, dilation, transposed, output_padding, groups)
    if refusal is not None:
        return refusal
    if grad.shape != output_shape(image, weight, stride, padding, dilation):
        return INVALID
    return "no images" if image.shape[0] == 0 else None  # layouts of their own, nothing to win


def _slower_convolution_backward(
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
    return crossover.conv2d_backward(image, groups)


_FASTER = "faster than the original by the recorded crossover"

OVERRIDES: dict[str, tuple[Override, ...]] = {
    "nms": (Override("torchvision::nms", _serve_nms, _unfit_nms, _FASTER),),
    "roi_align": (
        Override("torchvision::roi_align", _serve_pooling("roi_align"), _unfit_roi, _FASTER),
        Override(
            "torchvision::_roi_align_backward",
            _serve_roi("roi_align_backward"),
            _unfit_roi,
            "faster than the original, and deterministic",
        ),
    ),
    "roi_pool": (
        Override("torchvision::roi_pool", _serve_pooling("roi_pool"), _unfit_roi, _FASTER),
        Override(
            "torchvision::_roi_pool_backward",
            _serve_roi("roi_pool_backward"),
            _unfit_roi_pool_backward,
            "faster than the original, and deterministic",
        ),
    ),
    "conv2d": (
        # torch.jit.trace records the second in place of the first.
        *(
            Override(
                target,
                _serve_convolution,
                _unfit_convolution,
                _FASTER,
                _slower_convolution,
                _convolution_contenders,
            )
            for target in ("aten::convolution", "aten::_convolution")
        ),
        Override(
            "aten::convolution_backward",
            _serve_convolution_backward,
            _unfit_convolution_backward,
            _FASTER,
            _slower_convolution_backward,
        ),
    ),
}

NAMES = tuple(OVERRIDES)
