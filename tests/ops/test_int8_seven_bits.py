"""Weights of 7 bits, which AVX2 multiplies as bytes: the same sums as everywhere.

Other tests hold the scalar kernels to exact sums; here they are the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import _C
from cvperf.ops import conv2d_int8, int8_gemm, pack_int8

pytestmark = pytest.mark.skipif(
    "avx2" not in _C.available_isas(), reason="the processor has no AVX2"
)
LAYERS = [
    (2, 64, 9, 7, 64, 1, {}),
    (1, 24, 8, 8, 20, 1, {"stride": 2}),
    (2, 32, 10, 9, 48, 3, {"padding": 1}),
    (1, 3, 33, 31, 64, 7, {"stride": 2, "padding": 3}),
    (1, 512, 7, 7, 16, 3, {"padding": 1}),
    (1, 17, 12, 13, 5, 3, {"padding": (0, 2), "dilation": (1, 2)}),
    (2, 24, 8, 8, 36, 3, {"padding": 1, "groups": 3}),
    (2, 32, 12, 11, 32, 3, {"padding": 1, "groups": 32}),
    (1, 17, 9, 9, 17, 5, {"padding": 2, "groups": 17}),
]
DTYPES = [torch.uint8, torch.int8]


def integers(*size: int, dtype: torch.dtype, least: int | None = None) -> Tensor:
    info = torch.iinfo(dtype)
    low = info.min if least is None else least
    high = info.max if least is None else -least
    return torch.randint(low, high + 1, size, dtype=torch.int16).to(dtype)


def on(isa: str, call: Callable[[], Tensor]) -> Tensor:
    before = _C.isa()
    _C.select_isa(isa)
    try:
        return call()
    finally:
        _C.select_isa(before)


def assert_same_sums(call: Callable[[], Tensor]) -> None:
    expected, found = on("scalar", call), on("avx2", call)
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 3, 4, 5, 9, 64, 193])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (3, 16), (63, 65), (641, 33), (2900, 130)])
def test_products_are_exact(m: int, k: int, n: int, dtype: torch.dtype) -> None:
    a, b = integers(m, k, dtype=dtype), integers(k, n, dtype=torch.int8, least=-64)
    assert_same_sums(lambda: int8_gemm(a, b, zero_a=7))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_convolutions_are_exact(layer: tuple[Any, ...], dtype: torch.dtype) -> None:
    n, c, h, w, o, kernel, geometry = layer
    image = integers(n, c, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last)
    channels = c // geometry.get("groups", 1)
    weight = integers(o, channels, kernel, kernel, dtype=torch.int8, least=-64)
    options = {"zero_point_input": 100, "out_dtype": torch.int32, **geometry}
    assert_same_sums(lambda: conv2d_int8(image, weight, **options))


@pytest.mark.parametrize(
    "pair", [(64, 64), (127, 1), (127, 2), (-128, 0), (-128, -1), (-127, -127), (127, 127)], ids=str
)
def test_pairs_whose_sums_leave_16_bits_do_not_saturate(pair: tuple[int, int]) -> None:
    a = torch.full((9, 40), 255, dtype=torch.uint8)
    b = torch.tensor(pair, dtype=torch.int8).repeat(20)[:, None].repeat(1, 18)
    found = on("avx2", lambda: int8_gemm(a, b))
    assert found.tolist() == [[255 * 20 * sum(pair)] * 18] * 9


@pytest.mark.parametrize("widest", [0, 128, 129, 256])
def test_the_widest_pair_of_a_packed_weight_is_known(widest: int) -> None:
    b = torch.zeros(11, 35, dtype=torch.int8)
    b[9, 33], b[8, 33] = -(widest // 2), -(widest - widest // 2)
    assert int(pack_int8(b).data[-64:].view(torch.int32)[0]) == widest


@pytest.mark.parametrize("out", DTYPES)
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu", "hardswish", "sigmoid"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("channels", "side"), [(64, 11), (40, 3)])
def test_bytes_are_rounded_as_everywhere(
    out: torch.dtype, activation: str | None, with_residual: bool, channels: int, side: int
) -> None:
    torch.manual_seed(0)
    size = (2, channels, side, side)
    image = integers(*size, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    weight = integers(channels, channels, 3, 3, dtype=torch.int8, least=-63)
    residual = integers(*size, dtype=out).contiguous(memory_format=torch.channels_last)
    options = {
        "scale_weight": torch.rand(channels) * 1e-3,
        "bias": torch.randn(channels),
        "residual": residual if with_residual else None,
        "scale_output": 0.05 if activation != "sigmoid" else 1 / 256,
        "zero_point_output": 3,
        "out_dtype": out,
    }

    def call() -> Tensor:
        return conv2d_int8(
            image, weight, scale_input=0.02, zero_point_input=128, padding=1,
            activation=activation, **options,
        )  # fmt: skip

    expected, found = on("scalar", call), on("avx2", call)
    assert len(expected.unique()) > 20
    apart = (found.int() - expected.int()).abs()
    assert int(apart.max()) <= 1  # half steps: the order of float32 additions differs
    assert float(apart.float().mean()) < 1e-3
