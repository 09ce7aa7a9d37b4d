"""INT8 matrix products in Triton.

A zero point that a's dtype cannot hold is not refused, as nowhere in cvperf: sums may wrap around.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.int8_operands import column_sums, pack_int8, readable
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture, Tiles, family, roofline, seconds
from cvperf.backends.triton.configs import config_for
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import int8_gemm as kernels

__all__ = ["SPACE", "int8_gemm", "pack_int8", "predicted", "predicted_share", "splitting"]

REGISTERS = 65536
"""Of a processor, on every architecture so far."""


def _config(
    bm: int, bn: int, bk: int, warps: int, stages: int, group: int = 8, parts: int = 1
) -> Config:
    return Config.of(warps, stages, BM=bm, BN=bn, BK=bk, GROUP=group, PARTS=parts)


def shared_bytes(config: Config) -> int:
    """Shared memory: the stages of both factors, and the part of a tile that is being finished."""
    stages = config.num_stages * (config["BM"] + config["BN"]) * config["BK"]
    return int(stages + config["BM"] * config["BN"] * 4 // config["PARTS"] + 1024)


# Few rows; skinny; medium: too few large tiles for the processors; large. The model picks.
SPACE = Space(
    "int8_gemm",
    shipped={
        80: {
            "few": _config(16, 64, 256, 4, 3),
            "skinny": _config(64, 64, 128, 4, 4),
            "medium": _config(64, 128, 64, 4, 4),
            "large": _config(128, 128, 64, 8, 3, parts=2),
        },
        90: {
            "few": _config(16, 32, 512, 4, 4),
            "skinny": _config(64, 64, 256, 4, 4),
            "medium": _config(128, 128, 128, 4, 4, parts=4),
            "large": _config(128, 256, 128, 8, 4, parts=4),
        },
        100: {
            "few": _config(16, 32, 512, 4, 4),
            "skinny": _config(64, 64, 128, 4, 6),
            "medium": _config(128, 128, 128, 4, 4, parts=4),
            "large": _config(128, 256, 128, 8, 4, parts=4),
        },
    },
    shared_bytes=shared_bytes,
    more={
        80: (
            _config(128, 128, 128, 8, 3, parts=2),
            _config(16, 128, 256, 4, 3),
            _config(32, 64, 256, 4, 3),
        ),
        90: (
            _config(256, 128, 128, 8, 4, parts=4),
            _config(128, 256, 256, 8, 2, parts=4),
            _config(128, 128, 128, 4, 3, parts=4),
            _config(64, 128, 128, 4, 4, parts=2),
            _config(16, 128, 256, 4, 4),
            _config(32, 64, 256, 4, 4),
        ),
        100: (
            _config(128, 256, 128, 8, 3, parts=4),
            _config(128, 128, 128, 8, 4, parts=2),
            _config(16, 128, 256, 4, 4),
            _config(32, 64, 256, 4, 4),
        ),
    },
)

FINISH = Config.of(4, 1, BM=2, BN=512)


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
    a = readable(a, k).view(torch.int8)
    gpu, size = machine(a.device), out.element_size()
    vectors = (scale_a, scale_b, zero_a, bias)
    scale_a, scale_b, zero_a, bias = (None if one is None else one.contiguous() for one in vectors)
    epilogue = (out, scale_a, scale_b, zero_a, column_sums(b, n), bias, m, n)
    flags = {
        "SCALE_A_ROWS": scale_a is not None and scale_a.numel() > 1,
        "SCALE_B_COLUMNS": scale_b is not None and scale_b.numel() > 1,
        "ZERO_A_ROWS": zero_a is not None and zero_a.numel() > 1,
        "ACTIVATION": activation,
    }

    def run(config: Config) -> None:
        bm, bn, bk = config["BM"], config["BN"], config["BK"]
        descriptors = gpu.capability >= 90
        factors = (
            (
                TensorDescriptor(a, [m, k], [a.stride(0), 1], [bm, bk]),
                TensorDescriptor(b, [n, k], [k, 1], [bn, bk]),
            )
            if descriptors
            else (a, b)
        )
        how = {"DESCRIPTORS": descriptors, "EVEN_K": k % bk == 0, "UNSIGNED": unsigned}
        tiles = _tiles(m, n, config)
        splits, steps = splitting(gpu, config, m, n, k, size)
        if splits == 1:
            launch(
                kernels.int8_gemm_kernel,
                (min(tiles, gpu.processors * _blocks(gpu, config)),),
                *(*factors, *epilogue, k, a.stride(0), k),
                config=config,
                **how,
                **flags,
            )
            return
        parts = torch.empty((splits, m, n), dtype=torch.int32, device=a.device)
        launch(
            kernels.int8_gemm_split_kernel,
            (tiles, splits),
            *(*factors, parts, m, n, k, a.stride(0), k, steps),
            config=config.only("BM", "BN", "BK"),
            **how,
        )
        launch(
            kernels.int8_gemm_finish_kernel,
            (math.ceil(m / FINISH["BM"]), math.ceil(n / FINISH["BN"])),
            *(parts, *epilogue, splits),
            config=FINISH,
            UNSIGNED=unsigned,
            **flags,
        )

    call = f"{bucket(m, n, k)} {'u8' if unsigned else 's8'} {out_dtype}"
    kind = _kind(gpu, m, n, k, size)
    run(config_for(SPACE, kind, call, gpu, lambda one: predicted(gpu, one, m, n, k, size), run))
    return out


@functools.lru_cache(4096)
def _kind(gpu: Architecture, m: int, n: int, k: int, out_bytes: int) -> str:
    """The shipped configuration that the model predicts to be fastest."""
    shipped = SPACE.shipped[family(gpu.capability)]
    return min(shipped, key=lambda kind: predicted(gpu, shipped[kind], m, n, k, out_bytes))


def _tiles(m: int, n: int, config: Config) -> int:
    return math.ceil(m / config["BM"]) * math.ceil(n / config["BN"])


def _blocks(gpu: Architecture, config: Config) -> int:
    """Blocks that fit a processor at a time: by shared memory, and by the registers of the sums."""
    threads = 32 * config.num_warps
    registers = threads * min(255, config["BM"] * config["BN"] // threads + 80)
    return max(1, min(gpu.shared_bytes // shared_bytes(config), REGISTERS // registers))


@functools.lru_cache(4096)
def splitting(
    gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int
) -> tuple[int, int]:
    """Parts that the sum over k is split into, and blocks of k in each.

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
    splits, steps = splitting(gpu, config, m, n, k, out_bytes)
    return _seconds(gpu, config, m, n, k, out_bytes, splits, steps)


def _seconds(
    gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int,
    splits: int, steps: int,
) -> float:  # fmt: skip
    bm, bn = config["BM"], config["BN"]
    depth = steps * config["BK"]
    stored = out_bytes if splits == 1 else 8  # a part is written, and read again
    # On sm_90 tiles of fewer than 64 rows run the older, narrower tensor instruction, and others
    # wait for each block of k (see the kernel's design note).
    narrow = 0.6 if bm < 64 else 0.9
    tiles = Tiles(
        count=_tiles(m, n, config) * splits,
        operations=2.0 * bm * bn * depth,
        kind="int8",
        l2_bytes=(bm + bn) * depth + bm * bn * stored,
        memory_bytes=(m + n) * k + m * n * out_bytes,
        blocks=_blocks(gpu, config),
        efficiency=narrow if gpu.capability >= 90 else 1.0,
    )
    return seconds(gpu, tiles, launches=1 if splits == 1 else 2)
