"""torchao's int8 product with scales, the one behind its quantised linear layers."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.int8_gemm import Int8Gemm


def int8_gemm(problem: Int8Gemm) -> Contender:
    """``int_scaled_matmul``, then the weight's scales and the bias, as torchao's linear does.

    Eager: under torch.compile it decomposes into the calls of the peer torch.compile.
    """
    p = problem
    if not p.fused:
        raise Unsupported("its product without scales multiplies int32 matrices on the CPU")
    from torchao.kernel import int_scaled_matmul

    weight = p.b.T
    scale_a = torch.full((1, 1), p.scale_a)

    def run() -> Tensor:
        scaled = int_scaled_matmul(p.a, weight, scale_a)
        return torch.addcmul(p.bias, scaled, p.scale_b)

    return Contender(run, context=inference)


PEER = Peer("torchao", ("torchao",), {"int8_gemm": int8_gemm})
