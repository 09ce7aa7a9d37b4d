"""Batch norm, a residual and an activation in one operation that trains."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.backends.channels import dense_format
from cvperf.backends.registry import FLOATING
from cvperf.errors import (
    ArgumentError,
    UnsupportedError,
    check_number,
    check_tensor,
    describe,
    is_array,
)
from cvperf.ops._activation import LEAKY_RELU_SLOPE, check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._direct import ordinary
from cvperf.ops._library import define


def batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    residual: Tensor | None = None,
    training: bool = True,
) -> Tensor:
    """``activation(batch_norm(x) + residual)``, with the statistics of the batch in training.

    Each channel is normalised to mean 0 and variance 1 over N, H and W (biased variance), then
    multiplied by ``weight`` and moved by ``bias``. In training the running statistics move towards
    those of the batch (variance unbiased) as torch's do, in place. Otherwise they take the place
    of the batch's, and torch computes.

    On the CPU training reads ``x`` twice and writes the answer once; the gradient reads ``x`` and
    the answer's gradient twice and writes that of ``x`` once. ``x`` and the residual are kept for
    it, the answer is not. Deterministic, gradient included: the same bits for any number of
    threads. Sums are float64 over blocks of float32, so a mean far from 0 costs no accuracy.

    Args:
        x: [N, C, H, W]; bfloat16 or float32, in evaluation float16 and float64 as well.
            Channels-last is the fast layout; other strides than contiguous are copied.
        weight: [C] in any of these dtypes, whatever x has, or None for 1.
        bias: likewise, or None for 0.
        running_mean: [C], written to in training; None: not kept.
        running_var: likewise; given exactly if ``running_mean`` is.
        momentum: the share of the batch in the running statistics. For a cumulative average pass 1
            over the number of batches so far, this one included.
        eps: added to the variance.
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).
        residual: shape, dtype and device of ``x``, or None; in another layout it is copied.
        training: whether the batch's own statistics are used.

    Returns:
        Shape, dtype and layout of ``x``. bfloat16 is computed in float32 and rounded once.

    Raises:
        ArgumentError: shapes, dtypes, devices or the name do not fit; training with one value a
            channel; evaluation without running statistics.
        TypeError: an argument is of the wrong type.
        UnsupportedError: training on a device or in a dtype that no backend serves; a gradient of
            the gradient.

    Complexity: two passes over ``x`` each way. Differentiable once in ``x``, ``weight``, ``bias``
    and ``residual``.

    Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", ICML 2015.
    """
    if not isinstance(x, Tensor) and is_array(x):
        _check_writable(running_mean, running_var)
        return call_with_tensors(batch_norm, locals())
    _check(x, weight, bias, running_mean, running_var, residual, training)
    check_number("momentum", momentum, "0 to 1")
    check_number("eps", eps, "such as 1e-5")
    check_activation(activation)
    if not training:
        norm = F.batch_norm(x, running_mean, running_var, weight, bias, False, 0.0, eps)
        return activate(activation, norm if residual is None else norm + residual)
    output: Tensor
    arguments = (x, weight, bias, residual, float(eps), activation)
    with torch.no_grad():
        plain = ordinary(*arguments)
    output, mean, variance = (_Recorded.apply if plain else _batch_norm)(*arguments)
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(variance, alpha=momentum * count / (count - 1))
    return output


def _check(
    x: object,
    weight: object,
    bias: object,
    running_mean: object,
    running_var: object,
    residual: object,
    training: bool,
) -> None:
    check_tensor("x", x, "x[N, C, H, W]", ndim=4, dtypes=FLOATING)
    assert isinstance(x, Tensor)
    vectors = {
        "weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var,
    }  # fmt: skip
    for name, vector in vectors.items():
        if vector is None:
            continue
        check_tensor(name, vector, f"{name}[C]", ndim=1, dtypes=FLOATING)
        assert isinstance(vector, Tensor)
        if vector.shape[0] != x.shape[1] or vector.device != x.device:
            raise ArgumentError(
                f"{name} must have one number a channel of x (dimension 1), on its device: {name} "
                f"is {describe(vector)}, x is {describe(x)}"
            )
    if (running_mean is None) != (running_var is None):
        raise ArgumentError("running_mean and running_var are given both or neither")
    if residual is not None:
        check_tensor("residual", residual, "of the shape of x", like=("x", x))
        assert isinstance(residual, Tensor)
        if residual.shape != x.shape:
            raise ArgumentError(
                f"residual must have the shape of x: residual is {describe(residual)}, x is "
                f"{describe(x)}"
            )
    if training and x.shape[1] and x.numel() // x.shape[1] <= 1:
        raise ArgumentError(
            f"training needs more than one value a channel, got x {describe(x)}. Use a larger "
            "batch or larger images, or training=False"
        )
    if not training and running_mean is None:
        raise ArgumentError("training=False needs running_mean and running_var, got None")


def _check_writable(*statistics: Any) -> None:
    for array in statistics:
        if not getattr(getattr(array, "flags", None), "writeable", True):
            raise ArgumentError(
                f"running statistics are written to, and {describe(array)} is read-only. Pass a "
                "copy"
            )


def activate(activation: str | None, x: Tensor) -> Tensor:
    """The activation by name, as torch computes it."""
    if activation is None:
        return x
    if activation == "leaky_relu":
        return F.leaky_relu(x, LEAKY_RELU_SLOPE)
    if activation == "sigmoid":
        return x.sigmoid()
    answer: Tensor = getattr(F, activation)(x)
    return answer


def _fake(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    statistics = x.new_empty(x.shape[1], dtype=torch.float64)
    output = torch.empty_like(x, memory_format=dense_format(x))
    return output, statistics, torch.empty_like(statistics)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    activation: str | None,
    residual_needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x_grad = torch.empty_like(x, memory_format=dense_format(x))
    weight_grad = x.new_empty(x.shape[1], dtype=torch.float32)
    residual_grad = torch.empty_like(x_grad) if residual_needs_grad else x.new_empty(0)
    return x_grad, weight_grad, torch.empty_like(weight_grad), residual_grad


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, residual, ctx.eps, ctx.activation = inputs
    _, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
    ctx.set_materialize_grads(False)
    kept = None if ctx.activation is None else residual  # without one its gradient is the answer's
    ctx.save_for_backward(x, weight, bias, kept, mean, variance)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    x, weight, bias, residual, mean, variance = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
    fused = residual is not None and needs_residual
    x_grad, weight_grad, bias_grad, residual_grad = _batch_norm_backward(
        grad, x, weight, bias, residual, mean, variance, ctx.eps, ctx.activation, fused
    )
    return (
        x_grad if needs_x else None,
        weight_grad.to(weight.dtype) if needs_weight else None,
        bias_grad.to(bias.dtype) if needs_bias else None,
        (residual_grad if fused else grad) if needs_residual else None,
        None,
        None,
    )


class _Recorded(torch.autograd.Function):
    """The op where nothing but the gradient would need torch's dispatcher.

    A layer is called twice a training step, and the dispatcher's formula costs 0.3 ms more a call.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        output: tuple[Tensor, Tensor, Tensor] = _batch_norm(*inputs)
        _save(ctx, inputs, output)
        return output

    backward = staticmethod(_backward)


def _backward_backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
    raise UnsupportedError(
        "batch_norm has a first gradient only. For gradients of gradients use "
        "torch.nn.functional.batch_norm"
    )


_batch_norm = define(
    "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, float eps, "
    "str? activation) -> (Tensor, Tensor, Tensor)",
    _fake,
    backward=_backward,
    setup_context=_save,
)
_batch_norm_backward = define(
    "batch_norm_backward(Tensor grad, Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, "
    "Tensor mean, Tensor variance, float eps, str? activation, bool residual_needs_grad) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _fake_backward,
    backward=_backward_backward,
)
