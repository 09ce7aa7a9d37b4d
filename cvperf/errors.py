"""The errors cvperf raises for bad input, and the small checks that raise them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

import torch


class ArgumentError(ValueError, RuntimeError):
    """A call's arguments do not fit the op.

    It is a ``ValueError``, and also a ``RuntimeError`` because callers of the torch and torchvision
    originals catch that one. Arguments of the wrong Python type raise ``TypeError``.
    """


class UnsupportedError(NotImplementedError, ArgumentError):
    """The call is sound, but no backend can serve it here; the message says what would."""


class CompileError(RuntimeError):
    """A kernel does not compile here; the message has the kernel, the options and the log."""


class LaunchError(RuntimeError):
    """The GPU's driver refused a kernel; the message has the kernel, its sizes and the reason."""


def is_array(value: object) -> bool:
    """Whether a value is an array of another library than torch that DLPack can share."""
    return not isinstance(value, torch.Tensor) and hasattr(type(value), "__dlpack__")


def describe(value: Any) -> str:
    """Name a value as error messages do: ``float32[3, 4] on cpu`` for a tensor."""
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}{list(value.shape)} on {value.device}"
    if is_array(value):
        package = type(value).__module__.partition(".")[0]
        return f"{package}.{type(value).__name__} {value.dtype}{list(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """What to say after an unknown name: the known one that is most like it, or nothing.

    Args:
        name: as it was given.
        known: those that exist.
        likeness: 0 to 1, below which a name is not like another (difflib's ratio).
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"; did you mean {near[0]!r}?" if near else ""


def mixed(value: object, beside: str) -> str:
    """What to say of an array where a tensor is needed because argument ``beside`` is one."""
    if not is_array(value):
        return ""
    return f". Arrays and tensors do not mix, and {beside} is a torch.Tensor: convert one"


def check_tensor(
    name: str,
    value: object,
    expected: str,
    *,
    ndim: int | tuple[int, ...] | None = None,
    dtypes: Collection[torch.dtype] = (),
    like: tuple[str, torch.Tensor] | None = None,
) -> None:
    """Check one tensor argument's type, rank, dtype, and its dtype and device against another's.

    Args:
        name: the argument's name.
        value: what the caller passed.
        expected: the shape in words for the message, such as ``"boxes[N, 4]"``.
        ndim: the rank, or the ranks, that fit.
        dtypes: the dtypes that fit; empty for any.
        like: name and tensor whose device and dtype this one must share.

    Raises:
        TypeError: ``value`` is not a tensor.
        ArgumentError: anything else does not fit.
    """
    if not isinstance(value, torch.Tensor):
        hint = mixed(value, like[0] if like else "the first argument")
        raise TypeError(f"{name} must be a torch.Tensor {expected}, got {describe(value)}{hint}")
    if ndim is not None and value.dim() not in ((ndim,) if isinstance(ndim, int) else ndim):
        raise ArgumentError(f"{name} must be {expected}, got {describe(value)}")
    if dtypes and value.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ArgumentError(
            f"{name} must be {expected} of one of {names}; got {describe(value)}. "
            "Convert it with .to()"
        )
    if like is not None:
        other_name, other = like
        if value.device != other.device:
            raise ArgumentError(
                f"{name} and {other_name} must be on the same device: {name} is {describe(value)}, "
                f"{other_name} is {describe(other)}. Move one with .to()"
            )
        if value.dtype != other.dtype:
            raise ArgumentError(
                f"{name} and {other_name} must have the same dtype: {name} is {describe(value)}, "
                f"{other_name} is {describe(other)}. Convert one with .to()"
            )


def check_number(name: str, value: object, expected: str) -> None:
    """Check that an argument is a real number and not NaN.

    Args:
        name: the argument's name.
        value: what the caller passed.
        expected: its usual range in words for the message, such as ``"usually 0 to 1"``.

    Raises:
        TypeError: ``value`` is not a number.
        ArgumentError: it is NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if value != value:
        raise ArgumentError(f"{name} is NaN; expected a number, {expected}")


def check_count(name: str, value: object) -> None:
    """Check that an argument is an integer of 0 or more.

    Raises:
        TypeError: ``value`` is not an integer.
        ArgumentError: it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be an integer, got {describe(value)}")
    if value < 0:
        raise ArgumentError(f"{name} must be 0 or more, got {value}")
