"""cuBLASLt's int8 product, called by torch.

Not yet run on hardware.
"""

from __future__ import annotations

import torch

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import int_mm
from cvperf.bench.problems.int8_gemm import Int8Gemm


def int8_gemm(problem: Int8Gemm) -> Contender:
    """``torch._int_mm``, with ``fused`` then the scales and the bias in a kernel of their own.

    torch.compile's row is the same product, and one kernel after it.
    """
    shape = problem.shape
    if shape.m <= 16:
        raise Unsupported(f"torch._int_mm on a GPU takes more than 16 rows; this has {shape.m}")
    if shape.k % 8 or shape.n % 8:
        raise Unsupported(f"k and n must be multiples of 8; these are {shape.k} and {shape.n}")
    return int_mm(problem)


def _library() -> str:
    return f"cublaslt of CUDA {torch.version.cuda} in torch {torch.__version__}"


PEER = Peer("cublaslt", ("torch",), {"int8_gemm": int8_gemm}, devices=("cuda",), library=_library)
