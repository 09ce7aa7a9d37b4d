"""What the epilogue of an INT8 convolution takes, checked, and what stands for what is left out."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, check_tensor, describe
from cvperf.ops.int8_gemm import number_tensor

QUANTISED = (torch.int8, torch.uint8)
OUT_DTYPES = (*QUANTISED, torch.int32, torch.float32, torch.bfloat16, torch.float16)


def output_dtype(
    input: Tensor, scale_output: float | None, out_dtype: torch.dtype | None
) -> torch.dtype:
    if out_dtype is None:
        return torch.float32 if scale_output is None else input.dtype
    if not isinstance(out_dtype, torch.dtype):
        raise TypeError(f"out_dtype must be a torch.dtype or None, got {describe(out_dtype)}")
    if out_dtype not in OUT_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in OUT_DTYPES)
        raise ArgumentError(f"out_dtype must be one of {names}; got {out_dtype}")
    return out_dtype


def check_int32(
    dtype: torch.dtype,
    scale_input: float,
    scale_weight: float | Tensor | None,
    activation: str | None,
    residual: Tensor | None,
) -> None:
    """Refuse what int32 outputs, the exact sums, have no use for."""
    unused = (scale_weight, activation, residual)
    if dtype == torch.int32 and (scale_input != 1.0 or any(each is not None for each in unused)):
        raise ArgumentError(
            "scale_input, scale_weight, activation and residual do not apply to "
            "out_dtype=torch.int32, which is the exact sums; ask for out_dtype=torch.float32"
        )


def check_bias(bias: Tensor | None, dtype: torch.dtype, filters: int, input: Tensor) -> None:
    if bias is None:
        return
    wanted = torch.int32 if dtype == torch.int32 else torch.float32
    check_tensor("bias", bias, f"bias[O] for out_dtype {dtype}", ndim=1, dtypes=(wanted,))
    if bias.shape[0] != filters or bias.device != input.device:
        raise ArgumentError(
            f"bias must have one number a filter, O = {filters}, on the device of input "
            f"({input.device}); got {describe(bias)}"
        )


def check_residual(
    residual: Tensor, shape: tuple[int, int, int, int], dtype: torch.dtype, input: Tensor
) -> None:
    check_tensor("residual", residual, "residual, as the output", ndim=4, dtypes=(dtype,))
    if tuple(residual.shape) != shape or residual.device != input.device:
        raise ArgumentError(
            f"residual must have the output's shape {list(shape)}, on the device of input "
            f"({input.device}); got {describe(residual)}"
        )


def check_zero_point(name: str, value: object, dtype: torch.dtype) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {describe(value)}")
    info = torch.iinfo(dtype)
    if not info.min <= value <= info.max:
        raise ArgumentError(
            f"{name} must be a value of {dtype}, {info.min} to {info.max}; got {value}"
        )


def check_scale(name: str, value: object) -> float:
    """The scale as a float; refuses what is not positive and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not 0 < value < float("inf"):
        raise ArgumentError(f"{name} must be positive and finite, got {value}")
    return float(value)


def weight_scale(value: float | Tensor | None, filters: int, input: Tensor) -> Tensor | None:
    """float32 [1] or [O], or None for 1."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        return number_tensor(check_scale("scale_weight", value), torch.float32, input)
    expected = f"a number, float32 [1] or [O] with O = {filters}"
    check_tensor("scale_weight", value, expected, ndim=(0, 1), dtypes=(torch.float32,))
    if value.numel() not in (1, filters) or value.device != input.device:
        raise ArgumentError(
            f"scale_weight must be {expected}, on the device of input ({input.device}); got "
            f"{describe(value)}"
        )
    return value.reshape(-1)


def output_scale(scale: float | None, zero_point: int, dtype: torch.dtype) -> tuple[float, int]:
    """Scale and zero point of the output; 1 and 0 where it is not quantised."""
    if dtype in QUANTISED:
        check_zero_point("zero_point_output", zero_point, dtype)
        return (1.0 if scale is None else check_scale("scale_output", scale)), zero_point
    if scale is not None or zero_point != 0:
        raise ArgumentError(
            f"scale_output and zero_point_output do not apply to out_dtype={dtype}; "
            "ask for out_dtype=torch.int8 or torch.uint8"
        )
    return 1.0, 0


def residual_scale(
    residual: Tensor | None,
    scale: float | None,
    zero_point: int | None,
    dtype: torch.dtype,
    output: tuple[float, int],
) -> tuple[float, int]:
    """Scale and zero point of the residual, those of the output where they are not given."""
    if residual is None or dtype not in QUANTISED:
        if scale is not None or zero_point is not None:
            raise ArgumentError(
                "scale_residual and zero_point_residual need an int8 or uint8 residual; it is "
                f"{describe(residual)}"
            )
        return 1.0, 0
    if zero_point is not None:
        check_zero_point("zero_point_residual", zero_point, dtype)
    return (
        output[0] if scale is None else check_scale("scale_residual", scale),
        output[1] if zero_point is None else zero_point,
    )
