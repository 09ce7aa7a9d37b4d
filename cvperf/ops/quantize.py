"""Between floating point and 8-bit integers, by scale and zero point."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvperf.backends.channels import dense_format
from cvperf.errors import ArgumentError, check_number, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define
from cvperf.ops.int8_gemm import number_tensor

BYTES = (torch.int8, torch.uint8)
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def quantize(
    x: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor = 0,
    *,
    axis: int | None = None,
    dtype: torch.dtype = torch.int8,
) -> Tensor:
    """``round(x / scale) + zero_point``, half to even, saturated to what ``dtype`` can hold.

    Divided as torch and the epilogues of :func:`int8_gemm` and :func:`conv2d_int8` do it: times the
    float32 inverse of the scale. NaN gives the least value.

    Args:
        x: any shape; float16, bfloat16 or float32. Contiguous and channels-last tensors are read in
            place, others are copied.
        scale: what one step of the answer stands for: a number above 0 or float32 [1] for all, or
            float32 [x.shape[axis]]. Tensors are not checked to be above 0.
        zero_point: the value that stands for zero: an int or int32 [1] for all, or int32
            [x.shape[axis]]. One that ``dtype`` can hold; tensors are not checked.
        axis: the dimension that scale or zero point are along: 0 for the rows of a matrix, 1 for
            the channels of an image; None where there is one of each for all.
        dtype: int8 or uint8.

    Returns:
        ``dtype``, shape and layout of ``x``. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes, devices or numbers do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: one pass over ``x``.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018.
    """
    if not isinstance(x, Tensor) and is_array(x):
        return call_with_tensors(quantize, locals())
    check_tensor("x", x, "of any shape", dtypes=FLOATS)
    _check_dtype(dtype, BYTES)
    call = _parameters("x", x, scale, zero_point, axis, dtype)
    return _quantize(x.detach(), *call, dtype)


def dequantize(
    q: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor = 0,
    *,
    axis: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``(q - zero_point) * scale``, in float32 and rounded once to ``dtype``.

    Args:
        q: int8 or uint8, any shape. Contiguous and channels-last tensors are read in place, others
            are copied.
        scale: as :func:`quantize` has it.
        zero_point: as :func:`quantize` has it; a value that ``q``'s dtype can hold.
        axis: as :func:`quantize` has it.
        dtype: float32, bfloat16 or float16.

    Returns:
        ``dtype``, shape and layout of ``q``. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes, devices or numbers do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: one pass over ``q``.
    """
    if not isinstance(q, Tensor) and is_array(q):
        return call_with_tensors(dequantize, locals())
    check_tensor("q", q, "of any shape", dtypes=BYTES)
    _check_dtype(dtype, FLOATS)
    return _dequantize(q, *_parameters("q", q, scale, zero_point, axis, q.dtype), dtype)


def _check_dtype(dtype: object, known: tuple[torch.dtype, ...]) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {describe(dtype)}")
    if dtype not in known:
        names = ", ".join(str(each).removeprefix("torch.") for each in known)
        raise ArgumentError(f"dtype must be one of {names}; got {dtype}")


def _parameters(
    name: str,
    tensor: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor,
    axis: int | None,
    bytes: torch.dtype,
) -> tuple[Tensor, Tensor, int | None]:
    """Scale and zero point as [1] or [C], and the axis of C counted from the front."""
    if axis is not None:
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"axis must be an int or None, got {describe(axis)}")
        if not -tensor.dim() <= axis < tensor.dim():
            raise ArgumentError(
                f"axis must be a dimension of {name}, {describe(tensor)}; got {axis}"
            )
        axis %= tensor.dim()
    if isinstance(scale, Tensor):
        scale = _vector("scale", scale, name, tensor, axis, torch.float32)
    else:
        check_number("scale", scale, "above 0")
        if not 0 < scale < math.inf:
            raise ArgumentError(f"scale must be above 0 and finite, got {scale}")
        scale = number_tensor(float(scale), torch.float32, tensor)
    if isinstance(zero_point, Tensor):
        zero_point = _vector("zero_point", zero_point, name, tensor, axis, torch.int32)
    else:
        if isinstance(zero_point, bool) or not isinstance(zero_point, int):
            raise TypeError(f"zero_point must be an int or a tensor, got {describe(zero_point)}")
        limits = torch.iinfo(bytes)
        if not limits.min <= zero_point <= limits.max:
            raise ArgumentError(
                f"zero_point must be a value of {str(bytes).removeprefix('torch.')}, {limits.min} "
                f"to {limits.max}; got {zero_point}"
            )
        zero_point = number_tensor(zero_point, torch.int32, tensor)
    return scale, zero_point, None if scale.numel() == zero_point.numel() == 1 else axis


def _vector(
    name: str,
    value: Tensor,
    other: str,
    tensor: Tensor,
    axis: int | None,
    dtype: torch.dtype,
) -> Tensor:
    whole = "a scalar or [1]" if axis is None else f"a scalar, [1] or [{tensor.shape[axis]}]"
    hint = "; say its axis" if axis is None else ""
    check_tensor(name, value, whole, ndim=(0, 1), dtypes=(dtype,))
    fits = value.numel() == 1 or (axis is not None and value.shape[0] == tensor.shape[axis])
    if not fits or value.device != tensor.device:
        raise ArgumentError(
            f"{name} must be {whole}, on the device of {other} ({tensor.device}){hint}; got "
            f"{describe(value)}"
        )
    return value.reshape(-1)


def _fake(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None, dtype: torch.dtype
) -> Tensor:
    return torch.empty_like(x, dtype=dtype, memory_format=dense_format(x))


_arguments = "Tensor scale, Tensor zero_point, int? axis, ScalarType dtype"
_quantize = define(f"quantize(Tensor x, {_arguments}) -> Tensor", _fake)
_dequantize = define(f"dequantize(Tensor q, {_arguments}) -> Tensor", _fake)
