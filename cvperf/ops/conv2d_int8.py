"""INT8 convolution with exact int32 sums and a fused, requantising epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree

from cvperf.backends.cpu.conv2d_int8 import plan
from cvperf.backends.gpu.layouts import packed_conv2d_int8_shape
from cvperf.errors import ArgumentError, check_tensor, describe, is_array, mixed
from cvperf.ops._activation import check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._convolution import as_pair, check_fit, check_groups, output_shape
from cvperf.ops._int8_epilogue import (
    QUANTISED,
    check_bias,
    check_int32,
    check_residual,
    check_scale,
    check_zero_point,
    output_dtype,
    output_scale,
    residual_scale,
    weight_scale,
)
from cvperf.ops._library import define
from cvperf.ops._replay import RemembersCalls, remember
from cvperf.ops.int8_gemm import MAX_K_UNSIGNED, laid_out_for_gpu, packed_bytes


@dataclass(frozen=True, eq=False)
class PackedConv2dInt8(RemembersCalls):
    """A weight as :func:`conv2d_int8` reads it; made by :func:`pack_conv2d_int8`.

    On the CPU the layout is the same on every processor; a GPU has another one, so pack the weight
    on the device that uses it. It works with ``torch.save``, ``torch.compile`` and ``torch.export``
    (it is a pytree whose only leaf is ``data``).

    Attributes:
        data: uint8 [B] on the CPU, int8 [R, C] on a GPU; about as many bytes as the weight has.
        shape: (O, C / groups, kh, kw) of the weight.
        groups: the groups that it was packed for.
    """

    data: Tensor = field(repr=False)
    shape: tuple[int, int, int, int]
    groups: int


_pytree.register_pytree_node(
    PackedConv2dInt8,
    lambda packed: ([packed.data], (packed.shape, packed.groups)),
    lambda leaves, context: PackedConv2dInt8(*leaves, *context),
    serialized_type_name="cvperf.ops.conv2d_int8.PackedConv2dInt8",
    to_dumpable_context=lambda context: [list(context[0]), context[1]],
    from_dumpable_context=lambda context: (tuple(context[0]), context[1]),
)
torch.serialization.add_safe_globals([PackedConv2dInt8])  # torch.load(weights_only=True) takes it


def pack_conv2d_int8(weight: Tensor, groups: int = 1) -> PackedConv2dInt8:
    """Pack a weight once, for many calls of :func:`conv2d_int8`.

    Args:
        weight: int8 [O, C / groups, kh, kw], any strides.
        groups: blocks that the channels are split into.

    Returns:
        PackedConv2dInt8.

    Raises:
        ArgumentError: ``weight`` is not int8 [O, C / groups, kh, kw], is empty, or does not split
            into the groups.
        TypeError: an argument is of the wrong type.

    Complexity: two passes over ``weight``.
    """
    if not isinstance(weight, Tensor) and is_array(weight):
        return call_with_tensors(pack_conv2d_int8, locals())
    check_tensor("weight", weight, "weight[O, C/groups, kh, kw]", ndim=4, dtypes=(torch.int8,))
    check_groups(weight, groups)
    shape = (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3])
    return PackedConv2dInt8(_pack_conv2d_int8(weight, groups), shape, groups)


def conv2d_int8(
    input: Tensor,
    weight: Tensor | PackedConv2dInt8,
    *,
    scale_input: float = 1.0,
    scale_weight: float | Tensor | None = None,
    zero_point_input: int = 0,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int | None = None,
    activation: str | None = None,
    residual: Tensor | None = None,
    scale_residual: float | None = None,
    zero_point_residual: int | None = None,
    scale_output: float | None = None,
    zero_point_output: int = 0,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """2-D convolution of 8-bit integers, summed exactly in int32 and finished in the same pass.

    ``y = activation(sums * scale_input * scale_weight + bias + residual)``, where ``sums`` is the
    exact convolution of ``input - zero_point_input`` with ``weight`` and what follows it is
    float32. Padding adds nothing to the sums: it stands for zero, not for the number 0. By
    ``out_dtype``:

    - int8, uint8: ``round(y / scale_output) + zero_point_output``, half to even (times the float32
      inverse of the scale, as torch quantises), saturated.
    - float32, bfloat16, float16: ``y``.
    - int32: the sums plus an int32 ``bias``. No scales, activation or residual apply.

    Args:
        input: int8 or uint8 [N, C, H, W]. Channels-last is read in place; other layouts are copied.
        weight: int8 [O, C / groups, kh, kw], or what :func:`pack_conv2d_int8` made of it (saves the
            packing in each call).
        scale_input: what one step of ``input`` stands for.
        scale_weight: the same of ``weight``: a number or float32 [1], or float32 [O]; None for 1.
        zero_point_input: the value of ``input`` that stands for zero; one that its dtype can hold.
        bias: float32 [O] in units of ``y``; int32 [O] with int32 out.
        stride: output step in pixels, one int or (vertical, horizontal).
        padding: on each side in pixels, one int or (vertical, horizontal).
        dilation: pixels between the taps of the kernel, one int or (vertical, horizontal).
        groups: blocks that the channels are split into, 1 if not given; a packed weight knows.
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).
        residual: shape and dtype of the output; added before the activation.
        scale_residual: what a step of an int8 or uint8 ``residual`` stands for; as the output's if
            not given.
        zero_point_residual: its zero point; as the output's if not given.
        scale_output: what a step of the output stands for; with int8 or uint8 out only.
        zero_point_output: the value of the output that stands for zero.
        out_dtype: int8, uint8, int32, float32, bfloat16 or float16; if not given, ``input``'s with
            a ``scale_output`` and float32 without one.

    Returns:
        ``out_dtype`` [N, O, OH, OW], channels-last. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes, devices or the combination do not fit, or C / groups * kh *
            kw is above 65,793, where int32 could overflow.
        TypeError: an argument is of the wrong Python type.

    Complexity: N * O * OH * OW * C / groups * kh * kw multiplications. The result does not depend
    on the number of threads.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018; blocking in ``kernels/cpu/int8_product.cpp``.
    """
    arguments: tuple[object, ...] = (
        *(input, scale_input, scale_weight, zero_point_input, bias),
        *(stride, padding, dilation, groups, activation),
        *(residual, scale_residual, zero_point_residual),
        *(scale_output, zero_point_output, out_dtype),
    )
    replays = weight.replays() if isinstance(weight, PackedConv2dInt8) else None
    known = None if replays is None else replays.again(*arguments)
    if known is not None:
        return known
    if not isinstance(input, Tensor) and is_array(input):
        return call_with_tensors(conv2d_int8, locals())
    check_tensor("input", input, "input[N, C, H, W]", ndim=4, dtypes=QUANTISED)
    packed = _packed(input, weight, groups)
    steps, dilations = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    pads = as_pair("padding", padding, 0)
    check_activation(activation)
    dtype = output_dtype(input, scale_output, out_dtype)
    sized = cast(Tensor, packed)  # only its shape is asked
    check_fit(input, sized, None, steps, pads, dilations, packed.groups)
    check_int32(dtype, scale_input, scale_weight, activation, residual)
    check_bias(bias, dtype, packed.shape[0], input)
    check_zero_point("zero_point_input", zero_point_input, input.dtype)
    out_scale, out_zero = output_scale(scale_output, zero_point_output, dtype)
    if residual is not None:
        check_residual(residual, output_shape(input, sized, steps, pads, dilations), dtype, input)
    scale, zero = residual_scale(
        residual, scale_residual, zero_point_residual, dtype, (out_scale, out_zero)
    )
    call = (
        input,
        packed.data,
        packed.shape,
        packed.groups,
        check_scale("scale_input", scale_input),
        weight_scale(scale_weight, packed.shape[0], input),
        zero_point_input,
        bias,
        steps,
        pads,
        dilations,
        activation,
        residual,
        scale,
        zero,
        out_scale,
        out_zero,
        dtype,
    )
    result: Tensor = _conv2d_int8(*call)
    remember(replays, arguments, plan, call, result)
    return result


# --- checks ---------------------------------------------------------------------------------------


def _packed(
    input: Tensor, weight: Tensor | PackedConv2dInt8, groups: int | None
) -> PackedConv2dInt8:
    if not isinstance(weight, PackedConv2dInt8):
        if not isinstance(weight, Tensor):
            raise TypeError(
                "weight must be a torch.Tensor weight[O, C/groups, kh, kw] or a PackedConv2dInt8, "
                f"got {describe(weight)}{mixed(weight, 'input')}"
            )
        weight = pack_conv2d_int8(weight, 1 if groups is None else groups)
    elif groups is not None and groups != weight.groups:
        raise ArgumentError(
            f"weight was packed for {weight.groups} groups, but groups is {describe(groups)}. "
            "Leave groups out, or pack the weight for them"
        )
    dtype, expected = _layout(weight.shape, weight.groups, input)
    check_tensor("weight.data", weight.data, "as pack_conv2d_int8 makes it")
    if weight.data.dtype != dtype or tuple(weight.data.shape) != expected:
        name = str(dtype).removeprefix("torch.")
        raise ArgumentError(
            f"weight.data must be {name}{list(expected)} for shape {weight.shape} in "
            f"{weight.groups} groups and input on {input.device}, got {describe(weight.data)}. "
            "Make it with pack_conv2d_int8 on the device of input"
        )
    if weight.data.device != input.device:
        raise ArgumentError(
            f"input and weight must be on the same device: input is {describe(input)}, weight is "
            f"on {weight.data.device}. Move one with .to()"
        )
    terms = weight.shape[1] * weight.shape[2] * weight.shape[3]
    if terms > MAX_K_UNSIGNED:
        raise ArgumentError(
            f"weight has {terms} numbers a filter: above {MAX_K_UNSIGNED} the int32 sums could "
            "overflow. Split the channels, and add the results of the parts in float32"
        )
    return weight


# --- schemas --------------------------------------------------------------------------------------


def _bytes(shape: Sequence[int], groups: int) -> int:
    filters, channels, height, width = shape
    if groups > 1 and channels == 1 and filters == groups:  # depthwise
        return packed_bytes(width * ((height + 3) // 4 * 4), filters)
    return groups * packed_bytes(channels * height * width, filters // groups)


def _layout(shape: Sequence[int], groups: int, like: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    """dtype and shape of a packed weight on the device of a tensor."""
    if laid_out_for_gpu(like):
        return torch.int8, packed_conv2d_int8_shape(shape, groups)
    return torch.uint8, (_bytes(shape, groups),)


def _fake_pack(weight: Tensor, groups: int) -> Tensor:
    dtype, shape = _layout(weight.shape, groups, weight)
    return weight.new_empty(shape, dtype=dtype)


def _fake(
    input: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    groups: int,
    scale_input: float,
    scale_weight: Tensor | None,
    zero_point_input: int,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    residual: Tensor | None,
    scale_residual: float,
    zero_point_residual: int,
    scale_output: float,
    zero_point_output: int,
    out_dtype: torch.dtype,
) -> Tensor:
    sized = cast(Tensor, PackedConv2dInt8(packed, tuple(weight_size), groups))  # type: ignore[arg-type]
    return torch.empty(
        output_shape(input, sized, stride, padding, dilation),
        dtype=out_dtype,
        device=input.device,
        memory_format=torch.channels_last,
    )


_pack_conv2d_int8 = define("pack_conv2d_int8(Tensor weight, SymInt groups) -> Tensor", _fake_pack)
_conv2d_int8 = define(
    "conv2d_int8(Tensor input, Tensor packed, SymInt[4] weight_size, SymInt groups, "
    "float scale_input, Tensor? scale_weight, int zero_point_input, Tensor? bias, "
    "SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, str? activation, Tensor? residual, "
    "float scale_residual, int zero_point_residual, float scale_output, int zero_point_output, "
    "ScalarType out_dtype) -> Tensor",
    _fake,
)
