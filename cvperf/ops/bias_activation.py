"""Bias, residual and activation in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.backends.channels import dense_format
from cvperf.backends.registry import FLOATING
from cvperf.errors import ArgumentError, check_tensor, describe, is_array
from cvperf.ops._activation import activation_grad, check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define


def bias_activation(
    x: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """``activation(x + bias + residual)``, each element read and written once.

    For what follows an operation that cannot fuse it itself; :func:`conv2d` can.

    Args:
        x: [N, C], [N, C, L] or [N, C, H, W]; float16, bfloat16, float32 or float64. Contiguous and
            channels-last tensors are read in place, others are copied.
        bias: [C], same dtype and device as ``x``, or None.
        residual: shape, dtype and device of ``x``, or None; in another layout it is copied.
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).

    Returns:
        Shape, dtype and layout of ``x``. Half precision is computed in float32 and rounded once.

    Raises:
        ArgumentError: shapes, dtypes, devices or the name do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: one pass over ``x``. Differentiable twice in ``x``, ``bias`` and ``residual``.
    """
    if not isinstance(x, Tensor) and is_array(x):
        return call_with_tensors(bias_activation, locals())
    expected = "x[N, C], [N, C, L] or [N, C, H, W]"
    check_tensor("x", x, expected, ndim=(2, 3, 4), dtypes=FLOATING)
    if bias is not None:
        check_tensor("bias", bias, "bias[C]", ndim=1, like=("x", x))
        if bias.shape[0] != x.shape[1]:
            raise ArgumentError(
                f"bias must have one number a channel of x (dimension 1): bias is "
                f"{describe(bias)}, x is {describe(x)}"
            )
    if residual is not None:
        check_tensor("residual", residual, "of the shape of x", like=("x", x))
        if residual.shape != x.shape:
            raise ArgumentError(
                f"residual must have the shape of x: residual is {describe(residual)}, x is "
                f"{describe(x)}"
            )
    check_activation(activation)
    return _bias_activation(x, bias, residual, activation)


def _fake(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, activation: str | None
) -> Tensor:
    return torch.empty_like(x, memory_format=dense_format(x))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, residual, ctx.activation = inputs
    recomputes = ctx.activation in ("silu", "hardswish")
    ctx.save_for_backward(
        x if recomputes else None,
        bias if recomputes else None,
        residual if recomputes else None,
        None if ctx.activation is None or recomputes else output,
    )


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, bias, residual, output = ctx.saved_tensors
    grad = activation_grad(
        ctx.activation, grad, output, lambda: _bias_activation(x, bias, residual, None)
    )
    needs_x, needs_bias, needs_residual, _ = ctx.needs_input_grad
    bias_grad = grad.sum([0, *range(2, grad.dim())]) if needs_bias else None
    return grad if needs_x else None, bias_grad, grad if needs_residual else None, None


_bias_activation = define(
    "bias_activation(Tensor x, Tensor? bias, Tensor? residual, str? activation) -> Tensor",
    _fake,
    backward=_backward,
    setup_context=_save,
)
