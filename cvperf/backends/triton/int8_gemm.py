"""INT8 matrix products in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.triton.configs import Config, Space, bucket, config_for
from cvperf.backends.triton.launch import launch, machine
from cvperf.backends.triton.layouts import packed_int8_shape
from cvperf.backends.triton.model import Architecture, Tiles, seconds
from cvperf.kernels.triton import int8_gemm as kernels


def _shared_bytes(config: Config) -> int:
    return config.num_stages * (config["BM"] + config["BN"]) * config["BK"]


SPACE = Space(
    "int8_gemm",
    {
        80: {"large": Config.of(8, 3, BM=128, BN=128, BK=64, GROUP=8)},
        90: {"large": Config.of(8, 4, BM=128, BN=256, BK=128, GROUP=8)},
        100: {"large": Config.of(8, 4, BM=128, BN=128, BK=128, GROUP=8)},
    },
    _shared_bytes,
    {},
)


def pack_int8(b: Tensor) -> Tensor:
    """b[K, N] with its columns as rows, padded to 16 bytes, and their sums in further rows."""
    k, n = b.shape
    packed = torch.zeros(packed_int8_shape(k, n), dtype=torch.int8, device=b.device)
    packed[:n, :k] = b.t()
    _sums(packed, n).copy_(b.sum(0, dtype=torch.int32))
    return packed


def _sums(packed: Tensor, n: int) -> Tensor:
    return packed[n:].view(-1).view(torch.int32)[:n]


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
    m, k = a.shape
    if k > 1 and a.stride(1) != 1:
        a = a.contiguous()
    out = torch.empty((m, n), dtype=out_dtype, device=a.device)

    def run(config: Config) -> None:
        tiles = -(-m // config["BM"]) * -(-n // config["BN"])
        launch(
            kernels.int8_gemm_kernel,
            (tiles,),
            a.view(torch.int8),
            b_packed,
            out,
            scale_a,
            scale_b,
            zero_a,
            _sums(b_packed, n),
            bias,
            m,
            n,
            k,
            a.stride(0),
            b_packed.stride(0),
            SCALE_A_ROWS=scale_a is not None and scale_a.numel() > 1,
            SCALE_B_COLUMNS=scale_b is not None and scale_b.numel() > 1,
            ZERO_A_ROWS=zero_a is not None and zero_a.numel() > 1,
            UNSIGNED=a.dtype == torch.uint8,
            ACTIVATION=activation,
            config=config,
        )

    gpu = machine(a.device)
    run(
        config_for(
            SPACE,
            "large",
            f"{bucket(m, n, k)} {a.dtype} {out_dtype}",
            gpu,
            lambda config: predicted(gpu, config, m, n, k, out.element_size()),
            run,
        )
    )
    return out


def predicted(gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int) -> float:
    bm, bn = config["BM"], config["BN"]
    tiles = Tiles(
        count=-(-m // bm) * -(-n // bn),
        operations=2.0 * bm * bn * k,
        kind="int8",
        l2_bytes=(bm + bn) * k + bm * bn * out_bytes,
        memory_bytes=(m + n) * k + m * n * out_bytes,
    )
    return seconds(gpu, tiles)
