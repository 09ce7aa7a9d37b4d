"""Triton's interpreter made right, and made strict about addresses.

Written for triton 3.6 to 3.8, whose interpreter computes bfloat16 on its raw bits, forgets that a
comparison of scalars is a boolean, and reads wherever a pointer points. ``install`` repairs what is
wrong, and checks that every lane of every load, store and atomic that its mask lets through
lies in a tensor that was handed to the launch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

Builder = interpreter.InterpreterBuilder
Handle = interpreter.TensorHandle

COMPARISONS = {
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
}


class OutOfBoundsError(IndexError):
    """A kernel touched memory that is in none of its tensors."""


def install() -> None:
    """Repair the interpreter of this process, once."""
    if getattr(Builder, "repaired", False):
        return
    Builder.repaired = True
    np.seterr(over="ignore")  # exp may overflow to infinity, as it does on a GPU
    _repair_arithmetic()
    _repair_casts()
    _repair_loop_bounds()
    _check_addresses()


# --- bfloat16 -------------------------------------------------------------------------------------


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16 as its bits -> float32."""
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def narrowed(values: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 as its bits, rounded half to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def _is_bf16(handle: Any) -> bool:
    return handle.dtype.scalar == tl.bfloat16


def _values(handle: Any) -> np.ndarray:
    return widened(handle.data) if _is_bf16(handle) else handle.data


def _as_float32(handle: Any) -> Any:
    return Handle(widened(handle.data), tl.float32) if _is_bf16(handle) else handle


def _repair_arithmetic() -> None:
    binary, unary, ternary, dot = (
        *(Builder.binary_op, Builder.unary_op, Builder.ternary_op),
        Builder.create_dot,
    )

    def binary_op(self: Any, left: Any, right: Any, op: Any) -> Any:
        if op in COMPARISONS:
            return Handle(op(_values(left), _values(right)), tl.int1)
        if _is_bf16(left) or _is_bf16(right):
            return Handle(narrowed(op(_values(left), _values(right))), tl.bfloat16)
        return binary(self, left, right, op)

    def unary_op(self: Any, argument: Any, op: Any) -> Any:
        if _is_bf16(argument):
            return Handle(narrowed(op(widened(argument.data))), tl.bfloat16)
        return unary(self, argument, op)

    def ternary_op(self: Any, first: Any, second: Any, third: Any, op: Any) -> Any:
        # A choice copies bits; only clamping computes.
        if _is_bf16(third) and op is not np.where:
            values = op(_values(first), _values(second), _values(third))
            return Handle(narrowed(values), tl.bfloat16)
        return ternary(self, first, second, third, op)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, _as_float32(a), _as_float32(b), *rest)

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        value = _values(x) * _values(y) + _values(z)
        return Handle(narrowed(value) if _is_bf16(z) else value, z.dtype.scalar)

    Builder.binary_op, Builder.unary_op, Builder.ternary_op = binary_op, unary_op, ternary_op
    Builder.create_dot, Builder.create_fma = create_dot, create_fma
    Builder.get_bf16 = lambda self, value: Handle(
        narrowed(np.array([value], np.float32)), tl.bfloat16
    )


def _repair_casts() -> None:
    cast, convert = Builder.cast_impl, Builder.create_fp_to_fp

    def cast_impl(self: Any, source: Any, to: Any) -> Any:
        if to.scalar == tl.bfloat16:
            if _is_bf16(source):
                return source
            return Handle(narrowed(source.data.astype(np.float32)), tl.bfloat16)
        return cast(self, _as_float32(source), to)

    def create_fp_to_fp(self: Any, source: Any, to: Any, rounding: Any) -> Any:
        eight_bits = 8 in (source.dtype.scalar.primitive_bitwidth, to.scalar.primitive_bitwidth)
        if not eight_bits and (_is_bf16(source) or to.scalar == tl.bfloat16):
            return self.cast_impl(source, to)
        return convert(self, source, to, rounding)

    Builder.cast_impl, Builder.create_fp_to_fp = cast_impl, create_fp_to_fp
    Builder.create_fp_trunc = Builder.create_fp_ext = lambda self, source, to: self.cast_impl(
        source, to
    )


def _repair_loop_bounds() -> None:
    """3.6 makes a number of an array of one element, which later numpys refuse."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)  # what it sets, it takes back at the end of the launch
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patched


# --- addresses ------------------------------------------------------------------------------------

_starts = np.zeros(0, np.uint64)
_ends = np.zeros(0, np.uint64)


def _check_addresses() -> None:
    """Wrap whatever takes pointers; and note the tensors of each launch."""
    _wrap("create_masked_load", "load", pointer=0, mask=1)
    _wrap("create_masked_store", "store", pointer=0, mask=2)
    _wrap("create_atomic_rmw", "atomic", pointer=1, mask=3)
    _wrap("create_atomic_cas", "atomic", pointer=0, mask=None)
    prepare = interpreter.GridExecutor._init_args_hst

    def init_args(self: Any, args: Any, keywords: Any) -> Any:
        global _starts, _ends
        prepared = prepare(self, args, keywords)
        ranges = sorted(_memory([*prepared[0], *prepared[1].values()]))
        _starts = np.array([start for start, _ in ranges], np.uint64)
        _ends = np.array([end for _, end in ranges], np.uint64)
        return prepared

    interpreter.GridExecutor._init_args_hst = init_args


def _memory(values: Any) -> list[tuple[int, int]]:
    """First and last-plus-one address of every tensor among the arguments."""
    found = []
    for value in values:
        if isinstance(value, tuple):
            found += _memory(value)
        elif hasattr(value, "block_shape"):  # a tensor descriptor
            found += _memory([value.base])
        elif hasattr(value, "data_ptr") and value.numel():
            last = sum(
                (size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True)
            )
            start = value.data_ptr()
            found.append((start, start + (last + 1) * value.element_size()))
    return found


def _wrap(name: str, what: str, *, pointer: int, mask: int | None) -> None:
    original = getattr(Builder, name)

    def checked(self: Any, *args: Any, **more: Any) -> Any:
        _check(args[pointer], None if mask is None else args[mask], what)
        return original(self, *args, **more)

    setattr(Builder, name, checked)


def _check(pointers: Any, mask: Any, what: str) -> None:
    addresses = pointers.data.ravel()
    if mask is not None:
        wanted = np.asarray(getattr(mask, "data", mask)).astype(bool)
        addresses = pointers.data[np.broadcast_to(wanted, pointers.data.shape)]
    if addresses.size == 0:
        return
    size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
    # The tensor that starts last at or before the address; views of one storage may overlap.
    owner = np.searchsorted(_starts, addresses, "right").astype(np.int64) - 1
    reach = np.maximum.accumulate(_ends) if _ends.size else np.zeros(1, np.uint64)
    outside = (owner < 0) | (addresses + np.uint64(size) > reach[np.maximum(owner, 0)])
    if outside.any():
        raise OutOfBoundsError(
            f"{what} out of bounds: {int(outside.sum())} of {addresses.size} addresses are in none "
            f"of the launch's tensors"
        )
