"""INT8 matrix products by TMA and wgmma on sm_90a: ``kernels/cuda/int8_gemm_hopper.cu``.

``int8_gemm.py`` hands over what it chooses such a configuration for. Not yet run on hardware.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from torch import Tensor

from cvperf.backends.cuda import hopper, tensor_map
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.model import Architecture

GROUP = 8
"""Rows of tiles that are taken before the next column: what they share stays in L2."""


def multiply(
    gpu: Architecture, config: Config, a: Tensor, b: Tensor, n: int, epilogue: tuple[Any, ...]
) -> None:
    """Multiply a by packed b into what the epilogue says.

    Args:
        gpu: that runs it.
        config: one of ``hopper.tile``.
        a: int8 or uint8 [M, K], rows at multiples of 16 bytes.
        b: int8 [N or more, K], contiguous; its first n rows are the second factor's columns.
        n: columns.
        epilogue: the kernel's arguments ``out`` to ``N``.
    """
    m, k = a.shape
    span, (rows, columns) = hopper.ROW_BYTES, hopper.size(config)
    maps = (
        tensor_map.tiled(a, (k, m), (a.stride(0),), (span, rows), span),
        tensor_map.tiled(b, (k, n), (k,), (span, columns), span),
    )
    launch(
        _kernel(a.dtype.is_signed, config),
        (min(hopper.tiles(config, m, n), gpu.processors),),
        32 * config.num_warps,
        *(*maps, *epilogue, k, GROUP),
        shared_bytes=hopper.shared_bytes(config),
    )


def predicted(gpu: Architecture, config: Config, m: int, n: int, k: int, out_bytes: int) -> float:
    """Seconds by the analytical model."""
    steps, moved = math.ceil(k / hopper.ROW_BYTES), (m + n) * k + m * n * out_bytes
    return hopper.seconds(gpu, config, "int8", hopper.tiles(config, m, n), steps, moved, out_bytes)


@functools.cache
def _kernel(signed: bool, config: Config) -> Kernel:
    sign = "signed" if signed else "unsigned"
    name = f"int8_gemm_hopper<{sign} char, {hopper.template(config)}>"
    return Kernel("int8_gemm_hopper.cu", name)
