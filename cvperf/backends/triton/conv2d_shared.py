"""What the convolutions in Triton share: precision, and adding the parts of a sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import vector_of
from cvperf.backends.gpu.conv2d_shared import Epilogue
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import conv2d as kernels

_REDUCE = Config.of(4, 1, BM=32, BN=64)


def kind_of(dtype: torch.dtype, algorithm: str = "automatic") -> str:
    """Of multiplication: half, tf32, or float32 in three products of tf32.

    float32 is multiplied as TensorFloat32 where torch allows that to its own convolutions
    (``torch.backends.cudnn.conv.fp32_precision``) and the algorithm is not ``"precise"``.
    """
    if dtype != torch.float32:
        return "half"
    cudnn: Any = torch.backends.cudnn
    return "tf32" if cudnn.conv.fp32_precision == "tf32" and algorithm != "precise" else "float32"


PRECISION = {"half": "tf32", "int8": "tf32", "tf32": "tf32", "float32": "tf32x3"}
"""kind -> ``tl.dot``'s word for it; it only reads it for float32."""


def reduce(parts: Tensor, output: Tensor, rows: int, columns: int, epilogue: Epilogue) -> None:
    """Add parts [splits, rows, columns] in their order into the output, with the epilogue."""
    launch(
        kernels.conv2d_reduce,
        (-(-rows // _REDUCE["BM"]), -(-columns // _REDUCE["BN"])),
        *(parts, output, epilogue.bias, epilogue.residual),
        *(epilogue.weight_sums, epilogue.scale_weight, parts.shape[0], rows),
        columns // vector_of(columns, 4),
        *(*epilogue.scales, *epilogue.zeros),
        OUT_VECTOR=vector_of(columns, 4),
        ACTIVATION=epilogue.activation,
        SCALAR=epilogue.scalar,
        config=_REDUCE,
    )
