"""Linear layer whose weight has 4 bits a number and a scale for each group of inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, check_tensor, describe, is_array
from cvperf.ops._activation import check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def pack_int4(values: Tensor) -> Tensor:
    """Two 4-bit numbers into each byte.

    Args:
        values: int8 [N, K] of -8 to 7 (others lose their high bits); K is even.

    Returns:
        uint8 [N, K / 2]: byte j has column 2j in its low half and column 2j + 1 in its high half.
        The same on every device, so it can be moved and saved.

    Raises:
        ArgumentError: ``values`` is not int8 [N, K] with an even K.
        TypeError: ``values`` is not a tensor.

    Complexity: one pass over ``values``.
    """
    if not isinstance(values, Tensor) and is_array(values):
        return call_with_tensors(pack_int4, locals())
    check_tensor("values", values, "values[N, K]", ndim=2, dtypes=(torch.int8,))
    if values.shape[1] % 2:
        raise ArgumentError(f"values[N, K] must have an even K, got {describe(values)}")
    low, high = values[:, 0::2] & 15, values[:, 1::2] & 15
    return (low | (high << 4)).view(torch.uint8)


def int4_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    zero: Tensor | None = None,
    bias: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """``activation(x @ w.T + bias)`` with ``w = (values - zero) * scale``, group by group.

    For layers that are called with few rows, where reading the weight is all the time there is: on
    a GPU the kernel unpacks it on its way to the tensor cores. On the CPU the weight is expanded to
    float32 in each call, which saves memory and not time.

    Args:
        x: [..., K] float16 or bfloat16; on the CPU also float32.
        weight: uint8 [N, K / 2], made by :func:`pack_int4`.
        scale: [N, G] of x's dtype: one for each group of K / G neighbours in K. A group has 32, 64,
            128 or another power of two from 32 on; with G = 1 it is all of K.
        zero: int8 [N, G] of -8 to 7, the value that stands for zero in a group; None for 0.
        bias: [N] of x's dtype.
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).

    Returns:
        [..., N] of x's dtype, contiguous; sums in float32. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit.
        TypeError: an argument is of the wrong Python type.

    Complexity: M * N * K multiplications for M rows of x.

    Source: group-wise 4-bit weights as in Frantar et al., "GPTQ", ICLR 2023.
    """
    if not isinstance(x, Tensor) and is_array(x):
        return call_with_tensors(int4_linear, locals())
    check_tensor("x", x, "x[..., K]", dtypes=_DTYPES)
    check_tensor("weight", weight, "weight[N, K / 2], made by pack_int4", ndim=2,
                 dtypes=(torch.uint8,))  # fmt: skip
    n, k = weight.shape[0], 2 * weight.shape[1]
    if x.dim() == 0 or x.shape[-1] != k or k == 0:
        raise ArgumentError(
            f"x[..., K] must have K = {k} columns and at least one, for weight[N, K / 2] "
            f"{describe(weight)}; got {describe(x)}"
        )
    check_tensor("scale", scale, "scale[N, G]", ndim=2, like=("x", x))
    groups = scale.shape[1]
    if scale.shape[0] != n or not _divides(groups, k):
        raise ArgumentError(
            f"scale must be [N, G] with N = {n} and groups of K / G numbers, K = {k}: a power of "
            f"two from 32 on, or G = 1; got {describe(scale)}"
        )
    if zero is not None:
        check_tensor("zero", zero, "zero[N, G]", ndim=2, dtypes=(torch.int8,))
        if zero.shape != scale.shape:
            raise ArgumentError(
                f"zero must be shaped as scale: zero is {describe(zero)}, scale {describe(scale)}"
            )
    if bias is not None:
        check_tensor("bias", bias, "bias[N]", ndim=1, like=("x", x))
        if bias.shape[0] != n:
            raise ArgumentError(f"bias must be [N] with N = {n}, got {describe(bias)}")
    for name, tensor in (("weight", weight), ("zero", zero)):
        if tensor is not None and tensor.device != x.device:
            raise ArgumentError(
                f"{name} and x must be on the same device: {name} is {describe(tensor)}, x is "
                f"{describe(x)}. Move one with .to()"
            )
    if activation is not None:
        check_activation(activation)
    result: Tensor = _int4_linear(x, weight, scale, zero, bias, activation)
    return result


def _divides(groups: int, k: int) -> bool:
    """Whether K is split into groups that the kernels take."""
    if groups == 1:
        return True
    if groups == 0 or k % groups:
        return False
    size = k // groups
    return size >= 32 and size & (size - 1) == 0


def _fake(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


_int4_linear = define(
    "int4_linear(Tensor x, Tensor weight, Tensor scale, Tensor? zero, Tensor? bias, "
    "str? activation) -> Tensor",
    _fake,
)
