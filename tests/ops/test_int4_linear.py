"""Linear layers with 4-bit weights: the formula, groups, packing, torch, bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf.backends import reference, registry
from cvperf.backends.reference.int4_linear import unpacked_int4
from cvperf.bench.accuracy import largest_error, tolerance
from cvperf.ops import int4_linear, pack_int4
from cvperf.ops._activation import ACTIVATIONS

DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def layer(
    n: int, k: int, groups: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values [N, K], scale and zero [N, G], bias [N]."""
    values = torch.randint(-8, 8, (n, k), dtype=torch.int8)
    scale = (torch.rand(n, groups) * 0.02 + 1e-3).to(dtype)
    zero = torch.randint(-8, 8, (n, groups), dtype=torch.int8)
    return values, scale, zero, torch.randn(n).to(dtype)


def formula(x: Tensor, values: Tensor, scale: Tensor, zero: Tensor, bias: Tensor) -> Tensor:
    """The documented formula in float64, column by column, apart from the backends."""
    group = values.shape[1] // scale.shape[1]
    of = torch.arange(values.shape[1]) // group
    weight = (values.double() - zero.double()[:, of]) * scale.double()[:, of]
    return x.double() @ weight.T + bias.double()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "groups"), [(128, 4), (256, 2), (96, 1), (2, 1), (1024, 32)])
def test_it_is_the_formula(k: int, groups: int, dtype: torch.dtype) -> None:
    values, scale, zero, bias = layer(40, k, groups, dtype)
    x = torch.randn(5, 3, k).to(dtype)
    found = int4_linear(x, pack_int4(values), scale, zero=zero, bias=bias)
    expected = formula(x, values, scale, zero, bias)
    assert found.dtype == dtype
    assert largest_error(expected, found) <= tolerance(dtype, k)
    again = reference.int4_linear_exact(x, pack_int4(values), scale, zero, bias, None)
    assert torch.allclose(again, expected, rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    values, scale, zero, bias = layer(24, 64, 2)
    x = torch.randn(4, 64)
    found = int4_linear(x, pack_int4(values), scale, zero=zero, bias=bias, activation=activation)
    expected = getattr(torch.nn.functional, activation)(formula(x, values, scale, zero, bias))
    assert largest_error(expected, found) <= tolerance(torch.float32, 64)


def test_a_byte_has_two_neighbours_the_first_in_its_low_half() -> None:
    packed = pack_int4(torch.tensor([[1, -1, -8, 7]], dtype=torch.int8))
    assert packed.tolist() == [[0xF1, 0x78]]
    values = torch.randint(-8, 8, (5, 6), dtype=torch.int8)
    assert torch.equal(unpacked_int4(pack_int4(values)), values)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_no_columns(rows: int) -> None:
    values, scale, zero, bias = layer(0 if rows else 8, 64, 2)
    found = int4_linear(torch.randn(rows, 64), pack_int4(values), scale, zero=zero, bias=bias)
    assert found.shape == (rows, values.shape[0])


def test_opcheck_and_compile() -> None:
    values, scale, zero, bias = layer(24, 64, 2)
    packed, x = pack_int4(values), torch.randn(4, 64)
    torch.library.opcheck(
        torch.ops.cvperf.int4_linear.default, (x, packed, scale, zero, bias, "relu")
    )
    torch.library.opcheck(
        torch.ops.cvperf.int4_linear.default, (x, packed, scale, None, None, None)
    )
    compiled = torch.compile(int4_linear, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, packed, scale), int4_linear(x, packed, scale))


def test_the_reference_backend_serves_it_by_name() -> None:
    values, scale, _, _ = layer(24, 64, 2)
    x = torch.randn(4, 64)
    with registry.prefer("reference"):
        exact = int4_linear(x, pack_int4(values), scale)
    assert torch.allclose(exact, int4_linear(x, pack_int4(values), scale), atol=1e-5)


X, VALUES = torch.zeros(3, 64), torch.zeros(8, 64, dtype=torch.int8)
WEIGHT, SCALE = pack_int4(VALUES), torch.ones(8, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X.double(), WEIGHT, SCALE), {}, "float16, bfloat16, float32; got float64"),
        ((X[:, :62], WEIGHT, SCALE), {}, r"K = 64 columns.*float32\[3, 62\]"),
        ((X, WEIGHT.view(torch.int8), SCALE), {}, "made by pack_int4"),
        ((X, WEIGHT, SCALE.half()), {}, "scale and x must have the same dtype"),
        ((X, WEIGHT, torch.ones(8, 4)), {}, "a power of two from 32 on"),
        ((X, WEIGHT, torch.ones(7, 2)), {}, r"N = 8.*float32\[7, 2\]"),
        ((X, WEIGHT, SCALE), {"zero": torch.zeros(8, 1).char()}, "shaped as scale"),
        ((X, WEIGHT, SCALE), {"zero": torch.zeros(8, 2)}, "int8; got float32"),
        ((X, WEIGHT, SCALE), {"bias": torch.zeros(9)}, "N = 8"),
        ((X, WEIGHT, SCALE), {"activation": "gelu"}, "one of relu"),
        ((X, WEIGHT.to("meta"), SCALE), {}, "same device"),
    ],
)
def test_bad_values_are_named(
    arguments: tuple[Tensor, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message):
        int4_linear(*arguments, **options)


def test_bad_values_to_pack_are_named() -> None:
    with pytest.raises(cvperf.ArgumentError, match=r"even K, got int8\[2, 3\]"):
        pack_int4(torch.zeros(2, 3, dtype=torch.int8))
    with pytest.raises(cvperf.ArgumentError, match="got float32"):
        pack_int4(torch.zeros(2, 4))
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor"):
        int4_linear([1.0], WEIGHT, SCALE)
