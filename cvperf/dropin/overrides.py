"""Which ops of torch and torchvision cvperf overrides, what serves them, and when it declines.

A call is looked at before it is served. ``unfit`` declines what the kernel does not take and what
the original rejects (so that the caller sees the original's own error); ``slower`` what the
original runs faster on the CPU by the recorded crossover. On a GPU ``dropin/gpu.py`` decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import fits_winograd
from cvperf.backends.registry import (
    FLOATING,
    ORIGINAL,
    convolution_format,
    layout_of,
    select,
    select_for,
)
from cvperf.dropin import crossover, gpu
from cvperf.ops._convolution import output_shape

is_lazy_copy: Callable[[Tensor], bool] = torch._C._is_cow_tensor  # type: ignore[attr-defined]

INVALID = "arguments that the kernels do not take; the original checks them"


@dataclass(frozen=True)
class Override:
    """One dispatcher override.

    Attributes:
        target: the op as torch names it, such as ``"torchvision::nms"``.
        ops: of ours, that it may come down to.
        calls: those calls of them that these arguments come down to.
        serve: our function, with the target's arguments; it makes these calls.
        unfit: why our function cannot take these arguments; None if it can.
        why: what ``explain()`` says of a call served on the CPU.
        slower: why the original is expected to be faster on the CPU; None if ours is.
        flop: products and sums of a call, unless ``unfit`` says ``INVALID``.
        split: calls that one which goes to the original on the CPU can be made of, each decided by
            itself, if some are ours; of their answers, tuples, the entries that are not None are
            the call's.
        by_shape: whether no decision looks at a value, so that calls of one ``signature`` that go
            to the original are decided once.
        forwards_to: op that the original on the CPU only hands its arguments to, and further ones:
            called in its place, for one way less through Python.
        contenders: kind of call, and our ways to run it, for ``backends/tuning.py`` to choose from
            in place of ``slower``.
    """

    target: str
    ops: tuple[str, ...]
    calls: Callable[..., gpu.Calls]
    serve: Callable[..., Any]
    unfit: Callable[..., str | None]
    why: str
    slower: Callable[..., str | None] = lambda *args: None
    flop: Callable[..., int] = lambda *args: 0
    contenders: Callable[..., tuple[str, dict[str, Callable[[], Any]]]] | None = None
    split: Callable[..., Sequence[tuple[Any, ...]]] = lambda *args: ()
    by_shape: bool = False
    forwards_to: tuple[str, tuple[Any, ...]] | None = None

    def refuse(self, *args: Any) -> str | None:
        """Why the original runs these arguments by rule; None if ours does."""
        if (refusal := self.unfit(*args)) is not None:
            return refusal
        if args[0].is_cuda:
            choice = gpu.choose(self.calls(*args))
            return choice.reason if choice.backend == ORIGINAL else None
        return self.slower(*args)

    @property
    def needs_torchvision(self) -> bool:
        return self.target.startswith("torchvision::")


def _run(op: str, first: Tensor, *args: Any) -> Any:
    return select_for(op, first).function(first, *args)


def _alike(op: str) -> Callable[..., gpu.Calls]:
    """One call, with the target's own arguments."""
    return lambda *args: ((op, args),)


def _floating(*tensors: Tensor) -> bool:
    """Whether they are plain tensors of one floating dtype on one device."""
    first = tensors[0]
    dtype, device = first.dtype, first.device
    return dtype in FLOATING and all(
        t.dtype == dtype
        and t.device == device
        and t.layout == torch.strided
        and not is_lazy_copy(t)  # taking its address would make the copy
        for t in tensors
    )


# --- nms ------------------------------------------------------------------------------------------


def _serve_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return _run("nms", boxes, scores, iou_threshold)


def _unfit_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> str | None:
    fits = (
        boxes.dim() == 2
        and boxes.shape[1] == 4
        and scores.shape == boxes.shape[:1]
        and _floating(boxes, scores)
        and iou_threshold == iou_threshold
    )
    return None if fits else INVALID


# --- roi_align and roi_pool -----------------------------------------------------------------------


def _pooling_calls(op: str) -> Callable[..., gpu.Calls]:
    def calls(
        image: Tensor, boxes: Tensor, spatial_scale: float, height: int, width: int, *args: Any
    ) -> gpu.Calls:
        if image.numel() < boxes.shape[0] * image.shape[1] * height * width:
            image = image.contiguous()  # less to turn than in the answer
        return ((op, (image, boxes, spatial_scale, height, width, *args)),)

    return calls


def _planar_answer(calls: Callable[..., gpu.Calls]) -> Callable[..., Any]:
    def serve(*args: Any) -> Any:
        ((op, arguments),) = calls(*args)
        output = _run(op, *arguments)
        if isinstance(output, tuple):
            return tuple(_planar(each) for each in output)
        return _planar(output)

    return serve


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
        and _floating(image, boxes)
        and min(height, width) > 0
    )
    return None if fits else INVALID


def _unfit_roi_pool_backward(grad: Tensor, boxes: Tensor, argmax: Tensor, *args: Any) -> str | None:
    return _unfit_roi(grad, boxes, *args)


# --- convolution ----------------------------------------------------------------------------------


def _convolution_calls(
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
) -> gpu.Calls:
    call = (image, weight, bias, stride, padding, dilation, groups, None, None)
    return (("conv2d", call),)


def _serve_convolution(*args: Any) -> Tensor:
    ((op, arguments),) = _convolution_calls(*args)
    return _run(op, *arguments)


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


def _convolution_flop(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *rest: Any,
) -> int:
    if image.dim() != 4 or weight.dim() != 4 or len(stride) != 2:
        return 0
    # Each filter and its window meet at each pixel of the answer, or of the image if transposed.
    shape = image.shape
    pixels = shape if transposed else output_shape(image, weight, stride, padding, dilation)
    return 2 * shape[0] * math.prod(pixels[2:]) * math.prod(weight.shape)


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
        _floating(*tensors)
        and len(stride) == len(padding) == len(dilation) == 2
        and len(output_padding) in (1, 2)
        and min(*stride, *dilation, groups, *weight.shape) > 0
        and min(*padding, *output_padding) >= 0
        and image.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and min(output_shape(image, weight, stride, padding, dilation)[2:]) > 0
    )
    return None if fits else INVALID


def _convolution_backward_calls(
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
) -> gpu.Calls:
    """The gradients of image and weight, in this order, if they are wanted."""
    grad = grad.contiguous(memory_format=convolution_format(image, weight))
    geometry = (stride, padding, dilation, groups)
    both = (
        ("conv2d_input_grad", (grad, weight, image.shape, *geometry)),
        ("conv2d_weight_grad", (grad, image, weight.shape, *geometry)),
    )
    return tuple(call for call, wanted in zip(both, output_mask, strict=False) if wanted)


def _serve_convolution_backward(
    grad: Tensor, image: Tensor, weight: Tensor, *args: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    # As the original: the layout of image and weight decides that of the gradients. The kernels go
    # by their own arguments, of which one with a single channel has any layout.
    format = convolution_format(image, weight)
    calls = _convolution_backward_calls(grad, image, weight, *args)
    grads = iter([_run(op, *call).contiguous(memory_format=format) for op, call in calls])
    output_mask = args[-1]
    image_grad = next(grads) if output_mask[0] else None
    weight_grad = next(grads) if output_mask[1] else None
    bias_grad = None
    if output_mask[2]:
        bias_grad = grad.contiguous(memory_format=format).sum((0, 2, 3))
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


def _convolution_backward_flop(
    grad: Tensor, image: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, *args: Any
) -> int:
    return sum(args[-1][:2]) * _convolution_flop(image, weight, None, *args[:-1])


def _refused_gradients(*args: Any) -> list[str | None]:
    """Of those of image and weight that are wanted, why the original runs them."""
    grad, image, weight, _, stride, _, dilation, _, _, groups, output_mask = args
    layer = (stride, dilation, groups)
    refused = []
    if output_mask[0]:
        refused.append(crossover.conv2d_input_grad(image, weight, *layer))
    if output_mask[1]:
        refused.append(crossover.conv2d_weight_grad(grad, image, weight, *layer))
    return refused


def _slower_convolution_backward(*args: Any) -> str | None:
    return next((refusal for refusal in _refused_gradients(*args) if refusal is not None), None)


def _split_convolution_backward(*args: Any) -> list[tuple[Any, ...]]:
    """One call for each gradient, where only one of them is ours."""
    *rest, (image_wanted, weight_wanted, bias_wanted) = args
    if not (image_wanted and weight_wanted) or None not in _refused_gradients(*args):
        return []
    return [(*rest, [True, False, False]), (*rest, [False, True, bias_wanted])]


_FASTER = "faster than the original by the recorded crossover"
_NO_CUDNN = (False, False, False, False)
"""benchmark, deterministic, cudnn_enabled and allow_tf32, which nothing on the CPU reads."""


def _pooling(target: str, op: str) -> Override:
    calls = _pooling_calls(op)
    return Override(target, (op,), calls, _planar_answer(calls), _unfit_roi, _FASTER)


def _pooling_backward(target: str, op: str, unfit: Callable[..., str | None]) -> Override:
    calls = _alike(op)
    why = "faster than the original, and deterministic"
    return Override(target, (op,), calls, _planar_answer(calls), unfit, why)


OVERRIDES: dict[str, tuple[Override, ...]] = {
    "nms": (
        Override("torchvision::nms", ("nms",), _alike("nms"), _serve_nms, _unfit_nms, _FASTER),
    ),
    "roi_align": (
        _pooling("torchvision::roi_align", "roi_align"),
        _pooling_backward("torchvision::_roi_align_backward", "roi_align_backward", _unfit_roi),
    ),
    "roi_pool": (
        _pooling("torchvision::roi_pool", "roi_pool"),
        _pooling_backward(
            "torchvision::_roi_pool_backward", "roi_pool_backward", _unfit_roi_pool_backward
        ),
    ),
    "conv2d": (
        # torch.jit.trace records the second in place of the first.
        *(
            Override(
                target,
                ("conv2d",),
                _convolution_calls,
                _serve_convolution,
                _unfit_convolution,
                _FASTER,
                _slower_convolution,
                _convolution_flop,
                _convolution_contenders,
                by_shape=True,
                forwards_to=forwards_to,
            )
            for target, forwards_to in (
                ("aten::convolution", ("aten::_convolution", _NO_CUDNN)),
                ("aten::_convolution", None),
            )
        ),
        Override(
            "aten::convolution_backward",
            ("conv2d_input_grad", "conv2d_weight_grad"),
            _convolution_backward_calls,
            _serve_convolution_backward,
            _unfit_convolution_backward,
            _FASTER,
            _slower_convolution_backward,
            _convolution_backward_flop,
            split=_split_convolution_backward,
            by_shape=True,
        ),
    ),
}

NAMES = tuple(OVERRIDES)
