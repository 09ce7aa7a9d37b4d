"""INT8 matrix product with exact int32 sums and a fused epilogue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import _pytree

from cvperf.backends.cpu.int8_gemm import plan
from cvperf.backends.gpu.layouts import packed_int8_shape
from cvperf.backends.registry import preferred
from cvperf.errors import ArgumentError, check_tensor, describe, is_array, mixed
from cvperf.ops._activation import check_activation
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define
from cvperf.ops._replay import RemembersCalls, remember

_A_DTYPES = (torch.int8, torch.uint8)
_OUT_DTYPES = (torch.int32, torch.float32, torch.bfloat16, torch.float16, torch.int8)
_INT32, _FLOAT32 = (torch.int32,), (torch.float32,)

# Largest K whose sums fit int32 whatever the values: K * 128 * 128 and K * 255 * 128 below 2^31.
_MAX_K_SIGNED = 131_071
MAX_K_UNSIGNED = 65_793


@dataclass(frozen=True, eq=False)
class PackedInt8(RemembersCalls):
    """A matrix b[K, N] in the layout that :func:`int8_gemm` reads; made by :func:`pack_int8`.

    On the CPU the layout is the same on every processor, so a packed weight can be saved on one and
    used on another; a GPU has another layout, so pack the weight on the device that uses it. It
    works with ``torch.save``, ``torch.compile`` and ``torch.export`` (it is a pytree whose only
    leaf is ``data``).

    Attributes:
        data: on the CPU uint8 [B]: panels of 16 columns, each ``[ceil(K/4)][16][4]`` int8, zero
            padded, then the sum of each column as int32. On a GPU int8 [R, C]: the N columns as
            rows, padded with zeros to C, a multiple of 16; then N sums as int32, in further rows.
        k: rows of b.
        n: columns of b.
    """

    data: Tensor
    k: int
    n: int

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N), the shape of the matrix that was packed."""
        return (self.k, self.n)


_pytree.register_pytree_node(
    PackedInt8,
    lambda packed: ([packed.data], (packed.k, packed.n)),
    lambda leaves, shape: PackedInt8(*leaves, *shape),
    serialized_type_name="cvperf.ops.int8_gemm.PackedInt8",
)
torch.serialization.add_safe_globals([PackedInt8])  # torch.load(weights_only=True) takes it


def pack_int8(b: Tensor) -> PackedInt8:
    """Pack a weight once, for many calls of :func:`int8_gemm`.

    Args:
        b: int8 [K, N], any strides (``weight.t()`` of a [N, K] weight is not copied first).

    Returns:
        PackedInt8 of shape (K, N), about as many bytes as ``b``.

    Raises:
        ArgumentError: ``b`` is not int8 [K, N].
        TypeError: ``b`` is not a tensor.

    Complexity: one pass over ``b``.
    """
    if not isinstance(b, Tensor) and is_array(b):
        return call_with_tensors(pack_int8, locals())
    check_tensor("b", b, "b[K, N]", ndim=2, dtypes=(torch.int8,))
    return PackedInt8(_pack_int8(b), b.shape[0], b.shape[1])


def int8_gemm(
    a: Tensor,
    b: Tensor | PackedInt8,
    *,
    scale_a: float | Tensor | None = None,
    scale_b: float | Tensor | None = None,
    zero_a: int | Tensor | None = None,
    bias: Tensor | None = None,
    activation: str | None = None,
    out_dtype: torch.dtype = torch.int32,
) -> Tensor:
    """Matrix product of 8-bit integers, summed exactly in int32 and finished in the same pass.

    ``activation((a - zero_a) @ b * scale_a * scale_b + bias)``, where the product is exact and what
    follows it is float32, rounded once to ``out_dtype``:

    - int32: the exact sums. Scales and activations do not apply; ``bias`` is int32.
    - float32, bfloat16, float16: the formula.
    - int8: the formula, rounded half to even and saturated to [-128, 127] (NaN gives -128). To
      quantise by an output scale, divide ``scale_a`` or ``scale_b``, and ``bias``, by it.

    Args:
        a: int8 or uint8 [M, K]. Rows may be strided; other layouts are copied.
        b: int8 [K, N], or what :func:`pack_int8` made of it (saves a pass over b in each call).
        scale_a: a number or float32 [1] for all of ``a``, or float32 [M] or [M, 1] for its rows.
        scale_b: a number or float32 [1] for all of ``b``, or float32 [N] or [1, N] for its columns.
        zero_a: the value that stands for zero in ``a``: an int, int32 [1], or int32 [M] for its
            rows. It must be a value that ``a``'s dtype can hold; tensors are not checked, and other
            values may wrap the sums around.
        bias: float32 [N]; int32 [N] with int32 out.
        activation: None, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hardswish"``, ``"sigmoid"`` or
            ``"leaky_relu"`` (slope 0.01).
        out_dtype: int32, float32, bfloat16, float16 or int8.

    Returns:
        ``out_dtype`` [M, N], contiguous. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes, devices or the combination do not fit, or K is so large that
            int32 could overflow: above 131,071 for int8 without ``zero_a``, else above 65,793.
        TypeError: an argument is of the wrong Python type.

    Complexity: M * N * K multiplications; the result does not depend on the number of threads.

    Source: the quantised product as in Jacob et al., "Quantization and Training of Neural Networks
    for Efficient Integer-Arithmetic-Only Inference", CVPR 2018; blocking in
    ``kernels/cpu/int8_product.cpp``.
    """
    arguments: tuple[object, ...] = (a, scale_a, scale_b, zero_a, bias, activation, out_dtype)
    replays = b.replays() if isinstance(b, PackedInt8) else None
    known = None if replays is None else replays.again(*arguments)
    if known is not None:
        return known
    if not isinstance(a, Tensor) and is_array(a):
        return call_with_tensors(int8_gemm, locals())
    check_tensor("a", a, "a[M, K]", ndim=2, dtypes=_A_DTYPES)
    m, k = a.shape
    packed = _packed(a, k, b)
    n = packed.n
    if k > MAX_K_UNSIGNED:
        _check_k(a, zero_a)
    if not isinstance(out_dtype, torch.dtype):
        raise TypeError(f"out_dtype must be a torch.dtype, got {describe(out_dtype)}")
    if out_dtype not in _OUT_DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in _OUT_DTYPES)
        raise ArgumentError(f"out_dtype must be one of {names}; got {out_dtype}")
    if activation is not None:
        check_activation(activation)
    integer = out_dtype is torch.int32
    if integer and not (scale_a is None and scale_b is None and activation is None):
        raise ArgumentError(
            "scale_a, scale_b and activation do not apply to out_dtype=torch.int32, which is the "
            "exact sums; ask for out_dtype=torch.float32"
        )
    if bias is not None:
        wanted = _INT32 if integer else _FLOAT32
        check_tensor("bias", bias, "bias[N] for this out_dtype", ndim=1, dtypes=wanted)
        if bias.shape[0] != n or bias.device != a.device:
            raise ArgumentError(
                f"bias must have one entry a column of b[K, N], N = {n}, on the device of a "
                f"({a.device}); got {describe(bias)}"
            )
    if scale_a is not None:
        scale_a = _factor("scale_a", scale_a, a, (m, 1), torch.float32)
    if scale_b is not None:
        scale_b = _factor("scale_b", scale_b, a, (1, n), torch.float32)
    if zero_a is not None:
        zero_a = _factor("zero_a", zero_a, a, (m, 1), torch.int32)
    call = (a, packed.data, n, scale_a, scale_b, zero_a, bias, activation, out_dtype)
    result: Tensor = _int8_gemm(*call)
    remember(replays, arguments, plan, call, result)
    return result


def _packed(a: Tensor, k: int, b: Tensor | PackedInt8) -> PackedInt8:
    if isinstance(b, PackedInt8):
        data, rows = b.data, b.k
        on_gpu = laid_out_for_gpu(a)
        wanted = packed_int8_shape(rows, b.n) if on_gpu else (packed_bytes(rows, b.n),)
        dtype = torch.int8 if on_gpu else torch.uint8
        if not isinstance(data, Tensor) or data.dtype != dtype or tuple(data.shape) != wanted:
            name = str(dtype).removeprefix("torch.")
            raise ArgumentError(
                f"b.data must be {name}{list(wanted)} for b of shape {list(b.shape)} and a on "
                f"{a.device}, got {describe(data)}. Make it with pack_int8 on the device of a"
            )
    else:
        if not isinstance(b, Tensor):
            raise TypeError(
                "b must be a torch.Tensor b[K, N] or a PackedInt8, got "
                f"{describe(b)}{mixed(b, 'a')}"
            )
        check_tensor("b", b, "b[K, N]", ndim=2, dtypes=(torch.int8,))
        data, rows = b, b.shape[0]
    if rows != k:
        raise ArgumentError(
            f"b must have as many rows as a has columns: a is {describe(a)}, b has shape "
            f"{list(b.shape)}"
        )
    if data.device != a.device:
        raise ArgumentError(
            f"a and b must be on the same device: a is {describe(a)}, b is on {data.device}. "
            "Move one with .to()"
        )
    return b if isinstance(b, PackedInt8) else pack_int8(b)


def _check_k(a: Tensor, zero_a: int | Tensor | None) -> None:
    signed = a.dtype == torch.int8 and zero_a is None
    limit = _MAX_K_SIGNED if signed else MAX_K_UNSIGNED
    if a.shape[1] > limit:
        raise ArgumentError(
            f"a is {describe(a)}: with K above {limit} the int32 sums could overflow. Split K, "
            "and add the results of the parts in float32 or int64"
        )


def _factor(
    name: str,
    value: float | Tensor,
    a: Tensor,
    full: tuple[int, int],
    dtype: torch.dtype,
) -> Tensor:
    """A scale or zero point as [1], or as [M] or [N] (the side of ``full`` that is not 1)."""
    per_row = name.endswith("_a")
    length = full[0] if per_row else full[1]
    integer = dtype == torch.int32
    if not isinstance(value, Tensor):
        if isinstance(value, bool) or not isinstance(value, int if integer else (int, float)):
            kind = "an int" if integer else "a number"
            hint = mixed(value, "a")
            raise TypeError(f"{name} must be {kind} or a tensor, got {describe(value)}{hint}")
        if integer:
            info = torch.iinfo(a.dtype)
            if not info.min <= value <= info.max:
                raise ArgumentError(
                    f"{name} must be a value of a's dtype, {info.min} to {info.max}; got {value}"
                )
        return number_tensor(value, dtype, a)
    if value.dtype is dtype and value.shape == (length,) and value.device == a.device:
        return value
    word, two_dim = ("M", "[M, 1]") if per_row else ("N", "[1, N]")
    expected = f"a scalar, [1], [{word}] or {two_dim} with {word} = {length}"
    check_tensor(name, value, expected, ndim=(0, 1, 2), dtypes=(dtype,))
    fits = value.dim() == 0 or tuple(value.shape) in ((1,), (1, 1), (length,), full)
    if not fits or value.device != a.device:
        raise ArgumentError(
            f"{name} must be {expected}, on the device of a ({a.device}); got {describe(value)}"
        )
    return value.reshape(-1)


_numbers: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}


def number_tensor(value: float, dtype: torch.dtype, like: Tensor) -> Tensor:
    """``value`` as [1] on the device of ``like``; in an ordinary call the same tensor each time.

    Made anew it costs as much as a small product. Fake tensors and traces get their own.
    """
    if type(like) is not Tensor or torch.compiler.is_compiling():
        return torch.full((1,), value, dtype=dtype, device=like.device)
    key = (value, dtype, like.device)
    known = _numbers.get(key)
    if known is None:
        with torch.inference_mode(False):
            known = torch.full((1,), value, dtype=dtype, device=like.device)
        if type(known) is Tensor and len(_numbers) < 1024:
            _numbers[key] = known
    return known


def packed_bytes(k: int, n: int) -> int:
    panels, quads = (n + 15) // 16, (k + 3) // 4
    return panels * (quads * 64 + 64) + 64


def laid_out_for_gpu(like: Tensor) -> bool:
    """Whether weights are packed for a GPU: on one, and where a test prefers its kernels."""
    return like.is_cuda or preferred() in ("cuda", "triton")


def _fake_pack_int8(b: Tensor) -> Tensor:
    if laid_out_for_gpu(b):
        return b.new_empty(packed_int8_shape(b.shape[0], b.shape[1]), dtype=torch.int8)
    return b.new_empty(packed_bytes(b.shape[0], b.shape[1]), dtype=torch.uint8)


def _fake_int8_gemm(
    a: Tensor,
    b_packed: Tensor,
    n: int,
    scale_a: Tensor | None,
    scale_b: Tensor | None,
    zero_a: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    out_dtype: torch.dtype,
) -> Tensor:
    return a.new_empty((a.shape[0], n), dtype=out_dtype)


_pack_int8 = define("pack_int8(Tensor b) -> Tensor", _fake_pack_int8)
_int8_gemm = define(
    "int8_gemm(Tensor a, Tensor b_packed, SymInt n, Tensor? scale_a, Tensor? scale_b, "
    "Tensor? zero_a, Tensor? bias, str? activation, ScalarType out_dtype) -> Tensor",
    _fake_int8_gemm,
)
