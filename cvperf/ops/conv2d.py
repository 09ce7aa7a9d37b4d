"""2-D convolution with bias, residual and activation in the pass that stores the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import algorithm_for, plan
from cvperf.backends.registry import FLOATING, convolution_format
from cvperf.errors import ArgumentError, check_tensor, is_array
from cvperf.ops._activation import activation_grad, check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._convolution import (
    as_pair,
    check_fit,
    check_residual,
    output_shape,
    same_padding,
)
from cvperf.ops._library import define
from cvperf.ops._packed import PackedConv2d
from cvperf.ops._replay import remember


def conv2d(
    input: Tensor,
    weight: Tensor | PackedConv2d,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
    precise: bool = False,
) -> Tensor:
    """2-D convolution: ``activation(convolution(input, weight) + bias + residual)``.

    The arguments up to ``groups`` are those of ``torch.nn.functional.conv2d``. Channels-last is the
    fast layout; NCHW is served as it is, without a transpose. The output has the memory format that
    torch gives it: channels-last if ``input`` or ``weight`` is.

    Args:
        input: [N, C, H, W] or [C, H, W]; float16, bfloat16, float32 or float64.
        weight: [O, C / groups, kh, kw], same dtype and device as ``input``; or what
            :func:`pack_conv2d` made of it, for which the output is always channels-last.
        bias: [O] or None.
        stride: output step in pixels, one int or (vertical, horizontal).
        padding: zeros on each side in pixels, one int or (vertical, horizontal); ``"valid"`` for
            none; ``"same"`` for an output as large as the input (stride 1 only; where the total is
            odd the extra row or column is at the end).
        dilation: pixels between the taps of the kernel, one int or (vertical, horizontal).
        groups: blocks that the channels are split into; ``groups == C`` is depthwise.
        activation: ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"``,
            ``"leaky_relu"`` (slope 0.01) or None.
        residual: added before the activation; shape, dtype and device of the output.
        precise: leave out Winograd's F(4x4, 3x3), whose largest error is about 1e-6 of the largest
            output where a direct sum has 2e-7. (It serves layers of 3x3 kernels and stride
            1 where it is faster; so does F(2x2, 3x3), which is as exact as a sum.)

    Returns:
        [N, O, OH, OW] (or [O, OH, OW]), with
        ``OH = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1``.
        Half precision is summed in float32 and rounded once.

    Raises:
        ArgumentError: shapes, dtypes, devices or numbers do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: 2 * N * O * OH * OW * C / groups * kh * kw operations, without an unfolded copy of
    the input. Differentiable twice in input, weight, bias and residual. Deterministic.

    Source: implicit matrix product in register tiles (Goto and van de Geijn, "Anatomy of
    High-Performance Matrix Multiplication", TOMS 2008), read through pointers as in Dukhan, "The
    Indirect Convolution Algorithm", 2019; see ``kernels/cpu/conv2d_channels_last.hpp``. Winograd:
    Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
    """
    layer = weight if isinstance(weight, PackedConv2d) else None
    arguments = (input, bias, residual, stride, padding, dilation, groups, activation, precise)
    replays = None if layer is None else layer.replays()
    known = None if replays is None else replays.again(*arguments)
    if known is not None:
        return known
    if not isinstance(input, Tensor) and is_array(input):
        return call_with_tensors(conv2d, locals())
    check_tensor("input", input, "input[N, C, H, W] or [C, H, W]", ndim=(3, 4), dtypes=FLOATING)
    if isinstance(weight, PackedConv2d):
        weight = weight.weight
    check_tensor("weight", weight, "weight[O, C/groups, kh, kw]", ndim=4, like=("input", input))
    if bias is not None:
        check_tensor("bias", bias, "bias[O]", ndim=1, like=("input", input))
    steps, dilations = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    check_activation(activation)
    if layer is not None and layer.groups != groups:
        raise ArgumentError(
            f"groups must be what the weight was packed with, {layer.groups}; got {groups}"
        )

    batched = input.dim() == 4
    image = input if batched else input.unsqueeze(0)
    if isinstance(padding, str):
        image, pads = same_padding(image, weight, padding, steps, dilations)
    else:
        pads = as_pair("padding", padding, 0)
    check_fit(image, weight, bias, steps, pads, dilations, groups)
    if residual is not None:
        if isinstance(residual, Tensor) and not batched:
            residual = residual.unsqueeze(0)
        check_residual(residual, image, output_shape(image, weight, steps, pads, dilations))
    algorithm, packed = "precise" if precise else "automatic", None
    if layer is not None and image.is_cpu and not torch.compiler.is_compiling():
        algorithm = algorithm_for(image.shape, weight, steps, pads, dilations, groups, algorithm)
        packed = layer.form(dilations, algorithm)
    call = (
        *(image, weight, bias, steps, pads, dilations),
        *(groups, activation, residual, packed, algorithm),
    )
    output: Tensor = _conv2d(*call)
    if not batched:
        return output.squeeze(0)
    remember(replays, arguments, plan, call, output)
    return output


# --- conv2d ---------------------------------------------------------------------------------------


def _fake(
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
    return torch.empty(
        output_shape(image, weight, stride, padding, dilation),
        dtype=image.dtype,
        device=image.device,
        memory_format=convolution_format(image, weight),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, weight, bias, *geometry, activation, residual, _, algorithm = inputs
    ctx.geometry, ctx.activation, ctx.algorithm = geometry, activation, algorithm
    ctx.needs_bias, ctx.needs_residual = bias is not None, residual is not None
    recomputes = activation in ("silu", "hardswish")
    ctx.save_for_backward(
        image,
        weight,
        bias if recomputes else None,
        residual if recomputes else None,
        None if activation is None or recomputes else output,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    image, weight, bias, residual, output = ctx.saved_tensors
    grad = activation_grad(
        ctx.activation,
        grad,
        output,
        lambda: _conv2d(image, weight, bias, *ctx.geometry, None, residual, None, ctx.algorithm),
    )
    needs = ctx.needs_input_grad
    image_grad = weight_grad = bias_grad = None
    if needs[0]:
        image_grad = _conv2d_input_grad(grad, weight, image.shape, *ctx.geometry)
    if needs[1]:
        weight_grad = _conv2d_weight_grad(grad, image, weight.shape, *ctx.geometry)
    if ctx.needs_bias and needs[2]:
        bias_grad = grad.sum((0, 2, 3))
    residual_grad = grad if ctx.needs_residual and needs[8] else None
    return (image_grad, weight_grad, bias_grad, *[None] * 5, residual_grad, None, None)


# --- the gradients, each linear in both of its tensors --------------------------------------------


def _fake_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return torch.empty(
        tuple(input_size),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=convolution_format(grad, weight),
    )


def _fake_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return torch.empty(
        tuple(weight_size),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=convolution_format(image, grad),
    )


def _save_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, other, _, *ctx.geometry = inputs
    ctx.save_for_backward(grad, other)


def _input_grad_backward(ctx: Any, image: Tensor) -> tuple[Tensor | None, ...]:
    grad, weight = ctx.saved_tensors
    geometry = ctx.geometry
    first = second = None
    if ctx.needs_input_grad[0]:
        first = _conv2d(image, weight, None, *geometry, None, None)
    if ctx.needs_input_grad[1]:
        second = _conv2d_weight_grad(grad, image, weight.shape, *geometry)
    return first, second, None, None, None, None, None


def _weight_grad_backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
    grad, image = ctx.saved_tensors
    geometry = ctx.geometry
    first = second = None
    if ctx.needs_input_grad[0]:
        first = _conv2d(image, weight, None, *geometry, None, None)
    if ctx.needs_input_grad[1]:
        second = _conv2d_input_grad(grad, weight, image.shape, *geometry)
    return first, second, None, None, None, None, None


_GEOMETRY = "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups"

_conv2d = define(
    f"conv2d(Tensor input, Tensor weight, Tensor? bias, {_GEOMETRY}, str? activation, "
    "Tensor? residual, Tensor? packed=None, str algorithm='automatic') -> Tensor",
    _fake,
    backward=_backward,
    setup_context=_save,
)
_conv2d_input_grad = define(
    f"conv2d_input_grad(Tensor grad, Tensor weight, SymInt[] input_size, {_GEOMETRY}) -> Tensor",
    _fake_input_grad,
    backward=_input_grad_backward,
    setup_context=_save_grad,
)
_conv2d_weight_grad = define(
    f"conv2d_weight_grad(Tensor grad, Tensor input, SymInt[] weight_size, {_GEOMETRY}) -> Tensor",
    _fake_weight_grad,
    backward=_weight_grad_backward,
    setup_context=_save_grad,
)
