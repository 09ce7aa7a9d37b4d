"""INT8 matrix products in CUDA C++.

A zero point that a's dtype cannot hold is not refused, as nowhere in cvperf: sums may wrap around.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from cvperf.backends.cuda import hopper, int8_gemm_hopper, mainloop
from cvperf.backends.cuda.configs import config_for
from cvperf.backends.cuda.epilogue import ACTIVATION, TYPES, columns, factor
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.int8_operands import column_sums, pack_int8, readable
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture, Tiles, family, roofline, seconds

__all__ = ["SPACE", "int8_gemm", "pack_int8", "picked", "predicted", "predicted_share", "splitting"]

REGISTERS = 65536
"""Of a processor, on every architecture so far."""

GROUP = 8
"""Rows of tiles that are taken before the next column: what they share stays in L2."""

FINISH = Kernel("int8_gemm.cu", "int8_gemm_finish")
FINISH_THREADS = 128


def _config(bm: int, bn: int, bk: int, warps_m: int, warps: int, stages: int) -> Config:
    return Config.of(warps, stages, BM=bm, BN=bn, BK=bk, WARPS_M=warps_m)


# Few rows; skinny; medium: two tiles on a processor; large. The model picks.
_SHIPPED = {
    "few": _config(16, 64, 256, 1, 4, 4),
    "skinny": _config(64, 64, 128, 2, 4, 4),
    "medium": _config(128, 128, 64, 2, 4, 4),
    "large": _config(128, 256, 64, 2, 8, 4),
}
_SHIPPED_100 = {**_SHIPPED, "few": _config(16, 32, 512, 1, 2, 4)}
_SHIPPED_90 = {
    **_SHIPPED_100,
    "large": hopper.tile(256, 192, 3),
    "wide": hopper.tile(128, 256, 4),  # for fewer tiles
}
_MORE = (
    _config(16, 64, 256, 1, 4, 4),
    _config(32, 64, 256, 1, 4, 4),
    _config(64, 128, 128, 1, 4, 3),
    _config(128, 128, 128, 2, 4, 3),
    _config(128, 256, 128, 2, 8, 3),
)
_MORE_90 = (
    *(hopper.tile(256, 128, 4), hopper.tile(128, 128, 6)),
    *(_SHIPPED["large"], *_MORE),
)
SPACE = Space(
    "int8_gemm",
    shipped={80: _SHIPPED, 90: _SHIPPED_90, 100: _SHIPPED_100},
    shared_bytes=functools.partial(mainloop.shared_bytes, 1),
    more={80: (_config(16, 32, 512, 1, 2, 3), *_MORE), 90: _MORE_90, 100: _MORE},
)


def int8_gemm(
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
    """See ``cvperf.ops.int8_gemm``. Rows of a that 16-byte copies cannot read are copied first."""
    m = a.shape[0]
    out = torch.empty((m, n), dtype=out_dtype, device=a.device)
    if out.numel() == 0:
        return out
    unsigned = a.dtype == torch.uint8
    b = b_packed.contiguous()
    k = b.shape[1]  # padded with zeros, which add nothing
    a = readable(a, k)
    gpu, size = machine(a.device), out.element_size()
    vectors = (scale_a, scale_b, zero_a, bias)
    scale_a, scale_b, zero_a, bias = (None if one is None else one.contiguous() for one in vectors)
    epilogue = (
        *(out, *factor(scale_a), *factor(scale_b), *factor(zero_a), column_sums(b, n), bias),
        *(TYPES[out_dtype], ACTIVATION[activation], m, n),
    )

    def run(config: Config) -> None:
        if hopper.is_tile(config):
            int8_gemm_hopper.multiply(gpu, config, a, b, n, epilogue)
            return
        tiles = _tiles(m, n, config)
        splits, steps = splitting(gpu, config, m, n, k, size)
        parts = out if splits == 1 else out.new_empty((splits, m, n), dtype=torch.int32)
        launch(
            _kernel(unsigned, config),
            (tiles, splits),
            32 * config.num_warps,
            *(a, b, parts, *epilogue[1:]),
            *(k, np.int64(a.stride(0)), steps, GROUP),
            shared_bytes=mainloop.shared_bytes(1, config),
        )
        if splits > 1:
            threads = math.ceil(n / columns(out_dtype))
            grid = (m, math.ceil(threads / FINISH_THREADS))
            launch(FINISH, grid, FINISH_THREADS, parts, splits, *epilogue)

    call = f"{bucket(m, n, k)} {'u8' if unsigned else 's8'} {out_dtype}"
    kind = picked(gpu, m, n, k, size)
    run(config_for(SPACE, kind, call, gpu, lambda one: predicted(gpu, one, m, n, k, size), run))
    return out


@functools.cache
def _kernel(unsigned: bool, config: Config) -> Kernel:
    sign = "unsigned" if unsigned else "signed"
    return Kernel("int8_gemm.cu", f"int8_gemm<{sign} char, {config.template}>")


@functools.lru_cache(4096)
def picked(gpu: Architecture, m: int, n: int, k: int, out_bytes: int) -> str:
    """The shipped configuration that the model predicts to be fastest."""
    shipped = SPACE.shipped[family(gpu.capability)]
    return min(shipped, key=lambda kind: predicted(gpu, shipped[kind], m, n, k, out_bytes))


def _tiles(m: int, n: int, config: Config) -> int:
    return math.ceil(m / config["BM"]) * math.ceil(n / config["BN"])


def _warp(config: Config) -> tuple[int, int]:
    """Rows and columns of a tile that a warp multiplies."""
    warps_m = config["WARPS_M"]
    return config["BM"] // warps_m, config["BN"] * warps_m // config.num_warps


def _blocks(gpu: Architecture, config: Config) -> int:
    """Blocks that fit a processor at a time: by shared memory, and by registers.

    A thread keeps its sums, two sets of fragments, and some 56 addresses and counters.
    """
    rows, across = _warp(config)
    registers = min(255, rows * across // 32 + 2 * (rows + across) // 4 + 56)
    by_registers = REGISTERS // (32 * config.num_warps * registers)
    return max(1, min(gpu.shared_bytes // (mainloop.shared_bytes(1, config) + 1024), by_registers))


@functools.lru_cache(4096)
def splitting(
    gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int
) -> tuple[int, int]:
    """Parts that the sum over k is split into, and steps of BK in each.

    All in one, or so many parts that every processor has work: whichever should be faster.
    """
    blocks = math.ceil(k / config["BK"])
    free = gpu.processors * _blocks(gpu, config) // _tiles(m, n, config)
    steps = max(math.ceil(blocks / max(free, 1)), min(blocks, 2))
    options = ((1, blocks), (math.ceil(blocks / steps), steps))
    return min(options, key=lambda one: _seconds(gpu, config, m, n, k, out_bytes, *one))


def predicted_share(gpu: Architecture, kind: str, m: int, n: int, k: int, out_bytes: int) -> float:
    """Share of the roofline that a shipped configuration should reach, by the model."""
    config = SPACE.default(gpu, kind)
    least = roofline(gpu, 2.0 * m * n * k, "int8", (m + n) * k + m * n * out_bytes)
    return least / predicted(gpu, config, m, n, k, out_bytes)


def predicted(gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int) -> float:
    """Seconds by the analytical model."""
    if hopper.is_tile(config):
        return int8_gemm_hopper.predicted(gpu, config, m, n, k, out_bytes)
    splits, steps = splitting(gpu, config, m, n, k, out_bytes)
    return _seconds(gpu, config, m, n, k, out_bytes, splits, steps)


def _seconds(
    gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int,
    splits: int, steps: int,
) -> float:  # fmt: skip
    bm, bn = config["BM"], config["BN"]
    depth = steps * config["BK"]
    stored = out_bytes if splits == 1 else 8  # a part is written, and read again
    fragments = config.num_warps * sum(_warp(config))
    tiles = Tiles(
        count=_tiles(m, n, config) * splits,
        operations=2.0 * bm * bn * depth,
        kind="int8",
        l2_bytes=(bm + bn) * depth + bm * bn * stored,
        memory_bytes=(m + n) * k + m * n * out_bytes,
        blocks=_blocks(gpu, config),
        efficiency=mainloop.MMA_SYNC[family(gpu.capability)],
        l1_bytes=(bm + bn + fragments) * depth,  # shared memory: written once, read by ldmatrix
    )
    return seconds(gpu, tiles, launches=1 if splits == 1 else 2)
