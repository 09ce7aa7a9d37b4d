"""What the convolutions in CUDA C++ share: names of types, what copies can read, the epilogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvperf.backends.cuda.conv2d_plan import up_to_copies
from cvperf.backends.cuda.epilogue import ACTIVATION, TYPES, columns, factor
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.conv2d_shared import Epilogue, channels_last

NAMES = {
    torch.float16: "__half",
    torch.bfloat16: "__nv_bfloat16",
    torch.int8: "signed char",
    torch.uint8: "unsigned char",
}
"""dtype -> the type in CUDA C++."""

_REDUCE_THREADS, _PAD_THREADS = 128, 256


def aligned(tensor: Tensor) -> Tensor:
    """Channels last, beginning at a multiple of 16 bytes; a copy only if it is not already."""
    tensor = channels_last(tensor)
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def padded(tensor: Tensor, groups: int = 1) -> Tensor:
    """A channels-last tensor with each group's channels padded with zeros for copies to read."""
    channels = tensor.shape[1] // groups
    wide = up_to_copies(channels)
    if wide == channels:
        return aligned(tensor)
    shape = (tensor.shape[0], groups * wide, *tensor.shape[2:])
    output = torch.empty(
        shape, dtype=tensor.dtype, device=tensor.device, memory_format=torch.channels_last
    )
    pad_rows(channels_last(tensor), output, output.numel() // wide, 1, channels, channels, wide)
    return output


def pad_rows(
    source: Tensor, output: Tensor, rows: int, inner: int, pitch: int, channels: int, wide: int
) -> None:
    """Rows of ``channels`` numbers, ``inner`` side by side every ``pitch``, to rows of ``wide``."""
    kernel = Kernel("conv2d_pad.cu", f"conv2d_pad<{NAMES[source.dtype]}>")
    arguments = (source, output, np.int64(rows), inner, np.int64(pitch), channels, wide)
    launch(kernel, (-(-rows * wide // _PAD_THREADS),), _PAD_THREADS, *arguments)


def finishing(output: Tensor, epilogue: Epilogue) -> tuple[Any, ...]:
    """The epilogue as the kernels' arguments, from ``output`` to ``zero_output``."""
    bias = epilogue.bias
    return (
        *(output, TYPES[output.dtype], bias, TYPES[output.dtype if bias is None else bias.dtype]),
        *(epilogue.residual, ACTIVATION[epilogue.activation], *factor(epilogue.scale_weight)),
        *(*epilogue.scales, *epilogue.zeros),
    )


def reduce(parts: Tensor, output: Tensor, rows: int, size: int, epilogue: Epilogue) -> None:
    """Add parts [parts, rows, size] in their order into the output, with the epilogue."""
    across = -(-size // columns(output.dtype))
    sums = "int" if parts.dtype == torch.int32 else "float"
    launch(
        Kernel("conv2d_reduce.cu", f"conv2d_reduce<{sums}>"),
        (-(-rows * across // _REDUCE_THREADS),),
        _REDUCE_THREADS,
        *(parts, parts.shape[0], rows, size, across),
        *(*finishing(output, epilogue), epilogue.weight_sums),
    )
