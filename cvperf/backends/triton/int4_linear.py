"""Linear layers with 4-bit weights in Triton."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture, Tiles, family, roofline, seconds
from cvperf.backends.triton.configs import config_for
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import int4_linear as kernels


def shared_bytes(config: Config) -> int:
    """Shared memory: the stages of x and of the weight, and the weight unpacked."""
    bm, bn, bk = config["BM"], config["BN"], config["BK"]
    return int(config.num_stages * (2 * bm * bk + bn * bk // 2) + 2 * bn * bk + 1024)


_FEW = Config.of(4, 4, BM=16, BN=32, BK=256, GROUP=8)
SPACE = Space(
    "int4_linear",
    shipped={
        80: {"few": _FEW, "many": Config.of(8, 3, BM=128, BN=128, BK=32, GROUP=8)},
        90: {"few": _FEW, "many": Config.of(8, 3, BM=128, BN=128, BK=64, GROUP=8)},
        100: {"few": _FEW, "many": Config.of(8, 3, BM=128, BN=128, BK=64, GROUP=8)},
    },
    shared_bytes=shared_bytes,
    more={
        80: (Config.of(4, 4, BM=64, BN=64, BK=64, GROUP=8),),
        90: (Config.of(4, 4, BM=64, BN=64, BK=128, GROUP=8),),
        100: (Config.of(4, 4, BM=64, BN=64, BK=128, GROUP=8),),
    },
)


def int4_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    """See ``cvperf.ops.int4_linear``."""
    n, k = weight.shape[0], x.shape[-1]
    rows = x.reshape(-1, k)
    if k > 1 and rows.stride(1) != 1:
        rows = rows.contiguous()
    m, groups = rows.shape[0], scale.shape[1]
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    gpu = machine(x.device)

    def run(config: Config) -> None:
        launch(
            kernels.int4_linear_kernel,
            (_tiles(m, n, config),),
            rows,
            weight.contiguous().view(torch.int8),
            scale.contiguous(),
            None if zero is None else zero.contiguous(),
            bias,
            out,
            *(m, n, k, rows.stride(0), groups),
            # One group may be of any size: it is rounded up to what blocks of K divide.
            GROUP_K=k // groups if groups > 1 else max(256, 1 << (k - 1).bit_length()),
            ACTIVATION=activation,
            config=config,
        )

    if out.numel():
        kind, call = _kind(gpu, m, n, k), f"{bucket(m, n, k)} {x.dtype}"
        run(config_for(SPACE, kind, call, gpu, lambda one: predicted(gpu, one, m, n, k), run))
    return out.view(*x.shape[:-1], n)


@functools.lru_cache(4096)
def _kind(gpu: Architecture, m: int, n: int, k: int) -> str:
    shipped = SPACE.shipped[family(gpu.capability)]
    return min(shipped, key=lambda kind: predicted(gpu, shipped[kind], m, n, k))


def _tiles(m: int, n: int, config: Config) -> int:
    return math.ceil(m / config["BM"]) * math.ceil(n / config["BN"])


def predicted_share(gpu: Architecture, kind: str, m: int, n: int, k: int) -> float:
    """Share of the roofline that a shipped configuration should reach, by the model."""
    least = roofline(gpu, 2.0 * m * n * k, "half", _memory(m, n, k))
    return least / predicted(gpu, SPACE.default(gpu, kind), m, n, k)


def predicted(gpu: Architecture, config: Config, m: int, n: int, k: int) -> float:
    """Seconds by the analytical model."""
    bm, bn = config["BM"], config["BN"]
    tiles = Tiles(
        count=_tiles(m, n, config),
        operations=2.0 * bm * bn * k,
        kind="half",
        l2_bytes=(2 * bm + bn / 2) * k + 2 * bm * bn,
        memory_bytes=_memory(m, n, k),
        efficiency=0.5,  # unpacking takes about as long as the products
    )
    return seconds(gpu, tiles)


def _memory(m: int, n: int, k: int) -> float:
    """Bytes, with scales by groups of 128."""
    return n * k / 2 + n * k / 64 + 2.0 * m * (k + n)
