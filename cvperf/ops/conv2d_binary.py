"""Convolution of signs: one bit a number, counted by XNOR and popcount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree

from cvperf.backends.cpu.conv2d_binary import packed_shape, words_of
from cvperf.errors import ArgumentError, check_tensor, describe, is_array, mixed
from cvperf.ops._activation import check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._convolution import as_pair, check_fit, check_groups, output_shape
from cvperf.ops._library import define

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
MOST_TERMS = 2**24  # of a sum: the integers that float32 holds


@dataclass(frozen=True, eq=False)
class PackedConv2dBinary:
    """A weight's signs as :func:`conv2d_binary` reads them; made by :func:`pack_conv2d_binary`.

    The layout is the same on every processor. It works with ``torch.save``, ``torch.compile`` and
    ``torch.export`` (it is a pytree whose only leaf is ``data``).

    Attributes:
        data: int32 [P, kh * kw * words, 16]: one bit a number, 32 channels a word, 16 filters side
            by side.
        shape: (O, C, kh, kw) of the weight.
    """

    data: Tensor = field(repr=False)
    shape: tuple[int, int, int, int]


_pytree.register_pytree_node(
    PackedConv2dBinary,
    lambda packed: ([packed.data], packed.shape),
    lambda leaves, context: PackedConv2dBinary(next(iter(leaves)), context),
    serialized_type_name="cvperf.ops.conv2d_binary.PackedConv2dBinary",
    to_dumpable_context=lambda context: list(context),
    from_dumpable_context=lambda context: tuple(context),
)
torch.serialization.add_safe_globals([PackedConv2dBinary])  # torch.load(weights_only=True) takes it


def pack_bits(x: Tensor) -> Tensor:
    """The signs of an image, one bit a number.

    A bit is 1, which stands for +1, where ``x >= 0`` (0 and -0 as well); else, and for NaN, it is 0
    and stands for -1.

    Args:
        x: [N, C, H, W] float16, bfloat16 or float32. Channels-last is read in place; other layouts
            are copied.

    Returns:
        int32 [N, H, W, ceil(C / 32)]: channel c is bit c % 32 of word c // 32; bits of no channel
        are 0. It has no gradient.

    Raises:
        ArgumentError: shape or dtype does not fit.
        TypeError: ``x`` is not a tensor.

    Complexity: one pass over ``x``.
    """
    if not isinstance(x, Tensor) and is_array(x):
        return call_with_tensors(pack_bits, locals())
    check_tensor("x", x, "x[N, C, H, W]", ndim=4, dtypes=_FLOATS)
    if min(x.shape[1:]) < 1:
        raise ArgumentError(f"x[N, C, H, W] must be empty in N at most, got {describe(x)}")
    result: Tensor = _pack_bits(x.detach())
    return result


def pack_conv2d_binary(weight: Tensor) -> PackedConv2dBinary:
    """Pack the signs of a weight once, for many calls of :func:`conv2d_binary`.

    Args:
        weight: [O, C, kh, kw] float16, bfloat16 or float32, any strides. Signs are taken as
            :func:`pack_bits` does.

    Returns:
        PackedConv2dBinary.

    Raises:
        ArgumentError: ``weight`` is of another shape or dtype, or empty.
        TypeError: ``weight`` is not a tensor.

    Complexity: two passes over ``weight``.
    """
    if not isinstance(weight, Tensor) and is_array(weight):
        return call_with_tensors(pack_conv2d_binary, locals())
    check_tensor("weight", weight, "weight[O, C, kh, kw]", ndim=4, dtypes=_FLOATS)
    check_groups(weight, 1)
    shape = (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3])
    return PackedConv2dBinary(_pack_conv2d_binary(weight.detach()), shape)


def conv2d_binary(
    input: Tensor,
    weight: Tensor | PackedConv2dBinary,
    *,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    activation: str | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """2-D convolution of the signs of an image with the signs of a weight.

    ``y = activation(sums * scale + bias)``, where ``sums`` is the exact convolution of
    ``sign(input)`` with ``sign(weight)``; sign(0) is +1. Padding adds nothing to the sums, as the
    zeros around ``sign(input)`` would in ``torch.nn.functional.conv2d``. A fully connected layer
    is this with images of one pixel. There are no groups.

    Args:
        input: [N, C, H, W] float16, bfloat16 or float32, or what :func:`pack_bits` made of it:
            int32 [N, H, W, ceil(C / 32)].
        weight: [O, C, kh, kw] of the same dtypes, or what :func:`pack_conv2d_binary` made of it
            (saves the packing in each call).
        scale: float32 [O] or None for 1; XNOR-Net's is the mean of ``abs(weight)`` over a filter.
        bias: float32 [O] or None.
        stride: output step in pixels, one int or (vertical, horizontal).
        padding: on each side in pixels, one int or (vertical, horizontal).
        dilation: pixels between the taps of the kernel, one int or (vertical, horizontal).
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).
        out_dtype: float32, bfloat16 or float16; if not given, that of ``input``, and float32 for
            bits.

    Returns:
        ``out_dtype`` [N, O, OH, OW], channels-last. It has no gradient;
        :class:`cvperf.nn.BinaryConv2d` has one.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, or C * kh * kw is above 2^24, where
            float32 could not hold a sum.
        TypeError: an argument is of the wrong Python type.

    Complexity: N * O * OH * OW * C * kh * kw products of one bit, 32 to 512 of them an
    instruction. The result does not depend on the number of threads.

    Source: Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
    Networks", ECCV 2016; blocking in ``kernels/cpu/conv2d_binary.cpp``.
    """
    if not isinstance(input, Tensor) and is_array(input):
        return call_with_tensors(conv2d_binary, locals())
    check_tensor("input", input, "input[N, C, H, W], or bits int32 [N, H, W, ceil(C / 32)]",
                 ndim=4, dtypes=(*_FLOATS, torch.int32))  # fmt: skip
    packed = _packed(input, weight)
    steps, dilations = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    pads = as_pair("padding", padding, 0)
    check_activation(activation)
    dtype = _output_dtype(input, out_dtype)
    image = cast(Tensor, _Sized(_image_size(input, packed)))  # only their shapes are asked
    check_fit(image, cast(Tensor, packed), None, steps, pads, dilations, 1)
    for name, numbers in (("scale", scale), ("bias", bias)):
        _check_numbers(name, numbers, packed.shape[0], input)
    bits = input.detach() if input.dtype == torch.int32 else pack_bits(input)
    result: Tensor = _conv2d_binary(
        *(bits, packed.data, packed.shape, scale, bias),
        *(steps, pads, dilations, activation, dtype),
    )
    return result


# --- checks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sized:
    """Stands for a tensor in checks of sizes."""

    shape: tuple[int, ...]


def _image_size(input: Tensor, packed: PackedConv2dBinary) -> tuple[int, ...]:
    """[N, C, H, W] of the image, also where only its bits are there."""
    if input.dtype != torch.int32:
        return tuple(input.shape)
    count, height, width, words = input.shape
    channels = packed.shape[1]
    if words != words_of(channels):
        raise ArgumentError(
            f"input, bits [N, H, W, words], must have {words_of(channels)} words for the weight's "
            f"{channels} channels, got {describe(input)}"
        )
    return count, channels, height, width


def _packed(input: Tensor, weight: Tensor | PackedConv2dBinary) -> PackedConv2dBinary:
    if not isinstance(weight, PackedConv2dBinary):
        if not isinstance(weight, Tensor):
            raise TypeError(
                "weight must be a torch.Tensor weight[O, C, kh, kw] or a PackedConv2dBinary, got "
                f"{describe(weight)}{mixed(weight, 'input')}"
            )
        weight = pack_conv2d_binary(weight)
    expected = packed_shape(weight.shape)
    check_tensor("weight.data", weight.data, "as pack_conv2d_binary makes it")
    if weight.data.dtype != torch.int32 or tuple(weight.data.shape) != expected:
        raise ArgumentError(
            f"weight.data must be int32{list(expected)} for shape {weight.shape}, got "
            f"{describe(weight.data)}. Make it with pack_conv2d_binary"
        )
    if weight.data.device != input.device:
        raise ArgumentError(
            f"input and weight must be on the same device: input is {describe(input)}, weight is "
            f"on {weight.data.device}. Move one with .to()"
        )
    terms = weight.shape[1] * weight.shape[2] * weight.shape[3]
    if terms > MOST_TERMS:
        raise ArgumentError(
            f"weight has {terms} numbers a filter: above {MOST_TERMS} float32 does not hold every "
            "sum. Split the channels, and add the results of the parts"
        )
    return weight


def _output_dtype(input: Tensor, out_dtype: torch.dtype | None) -> torch.dtype:
    if out_dtype is None:
        return torch.float32 if input.dtype == torch.int32 else input.dtype
    if not isinstance(out_dtype, torch.dtype):
        raise TypeError(f"out_dtype must be a torch.dtype or None, got {describe(out_dtype)}")
    if out_dtype not in _FLOATS:
        names = ", ".join(str(each).removeprefix("torch.") for each in _FLOATS)
        raise ArgumentError(f"out_dtype must be one of {names}; got {out_dtype}")
    return out_dtype


def _check_numbers(name: str, numbers: Tensor | None, filters: int, input: Tensor) -> None:
    if numbers is None:
        return
    check_tensor(name, numbers, f"{name}[O]", ndim=1, dtypes=(torch.float32,))
    if numbers.shape[0] != filters or numbers.device != input.device:
        raise ArgumentError(
            f"{name} must be float32[{filters}], one number a filter, on the device of input "
            f"({input.device}); got {describe(numbers)}"
        )


# --- schemas --------------------------------------------------------------------------------------


def _fake_bits(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    return x.new_empty((count, height, width, words_of(channels)), dtype=torch.int32)


def _fake_packed(weight: Tensor) -> Tensor:
    return weight.new_empty(packed_shape(weight.shape), dtype=torch.int32)


def _fake(
    bits: Tensor,
    packed: Tensor,
    weight_size: Sequence[int],
    scale: Tensor | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    image = _Sized((bits.shape[0], weight_size[1], bits.shape[1], bits.shape[2]))
    shape = output_shape(
        *(cast(Tensor, image), cast(Tensor, _Sized(tuple(weight_size)))), stride, padding, dilation
    )
    return torch.empty(
        shape, dtype=out_dtype, device=bits.device, memory_format=torch.channels_last
    )


_pack_bits = define("pack_bits(Tensor x) -> Tensor", _fake_bits)
_pack_conv2d_binary = define("pack_conv2d_binary(Tensor weight) -> Tensor", _fake_packed)
_conv2d_binary = define(
    "conv2d_binary(Tensor bits, Tensor packed, SymInt[4] weight_size, Tensor? scale, "
    "Tensor? bias, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, str? activation, "
    "ScalarType out_dtype) -> Tensor",
    _fake,
)
