"""Linear layers with 4-bit weights in Triton: groups, zeros, epilogue, ragged shapes."""

from __future__ import annotations

import pytest
import torch

from cvperf import ops
from cvperf.backends import reference
from cvperf.backends.gpu.configs import forcing
from cvperf.ops._activation import ACTIVATIONS
from tests.kernels.triton.faults import Fault
from tests.kernels.triton.harness import assert_close, on_triton

HALF = (torch.float16, torch.bfloat16)


def check(
    kind: str,
    m: int = 5,
    n: int = 70,
    k: int = 384,
    groups: int = 3,
    dtype: torch.dtype = torch.float16,
    zero: bool = True,
    activation: str | None = None,
) -> None:
    packed = ops.pack_int4(torch.randint(-8, 8, (n, k), dtype=torch.int8))
    x, scale = torch.randn(m, k).to(dtype), (torch.rand(n, groups) * 0.02 + 1e-3).to(dtype)
    shift = torch.randint(-8, 8, (n, groups), dtype=torch.int8) if zero else None
    bias = torch.randn(n).to(dtype)
    with forcing(kind):
        found = on_triton(
            *(ops.int4_linear, x, packed, scale), zero=shift, bias=bias, activation=activation
        )
    expected = reference.int4_linear_exact(x, packed, scale, shift, bias, activation)
    assert found.dtype == dtype
    assert_close(found, expected, terms=k, what=f"{kind} {m, n, k} {groups} groups {dtype}")


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("kind", ["few", "many"])
def test_groups_larger_and_smaller_than_a_block(kind: str, dtype: torch.dtype) -> None:
    check(kind, k=384, groups=3, dtype=dtype)
    check(kind, k=320, groups=10, dtype=dtype)
    check(kind, k=1024, groups=2, dtype=dtype, zero=False)


@pytest.mark.parametrize("kind", ["few", "many"])
def test_one_group_of_any_size(kind: str) -> None:
    check(kind, k=98, groups=1)
    check(kind, k=2, groups=1, m=1, n=1)
    check(kind, k=300, groups=1)


def test_several_tiles() -> None:
    check("many", m=150, n=260, k=128, groups=4)
    check("few", m=40, n=70, k=128, groups=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    check("few", activation=activation)


def test_rows_that_are_strided_and_have_several_dimensions() -> None:
    packed = ops.pack_int4(torch.randint(-8, 8, (20, 64), dtype=torch.int8))
    scale, wide = torch.rand(20, 2).half(), torch.randn(2, 3, 128).half()
    for x in (wide[..., :64], wide[..., ::2], wide[:, :0, :64]):
        found = on_triton(ops.int4_linear, x, packed, scale)
        assert found.shape == (*x.shape[:-1], 20)
        expected = reference.int4_linear_exact(x, packed, scale, None, None, None)
        assert_close(found, expected, terms=64)


# --- planted faults -------------------------------------------------------------------------------


def small_groups() -> None:
    check("few", k=320, groups=10)


def one_ragged_group() -> None:
    check("few", k=300, groups=1)


FAULTS = [
    Fault(
        "the halves of a byte change places",
        *("int4_linear", "((both << 4) >> 4, both >> 4)", "(both >> 4, (both << 4) >> 4)"),
        small_groups,
    ),
    Fault(
        "the low half is taken for unsigned",
        *("int4_linear", "(both << 4) >> 4", "both & 15", small_groups),
    ),
    Fault(
        "a block takes the scales of the first",
        *("int4_linear", "group = first // GROUP_K +", "group = 0 * first +", small_groups),
    ),
    Fault(
        "x is read past its last column",
        *("int4_linear", "(first + k < K)[:, None]", "(first + k >= 0)[:, None]"),
        one_ragged_group,
    ),
]
