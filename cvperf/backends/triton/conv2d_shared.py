"""What the convolutions share: layouts, precision, the epilogue, adding the parts of a sum."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.triton.conv2d_layer import Layer, vector_of
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import conv2d as kernels

_REDUCE = Config.of(4, 1, BM=32, BN=64)
_known_layer = functools.lru_cache(maxsize=4096)(Layer.of)


def layer_of(
    image: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Layer:
    """The layer of these shapes."""
    sizes = (image, weight, stride, padding, dilation)
    return _known_layer(*(tuple(each) for each in sizes), groups)


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor with its channels last in memory, which for a weight is [O, kh, kw, C/groups]."""
    return tensor.contiguous(memory_format=torch.channels_last)


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


class Output:
    """An output in the memory format that torch would give it; kernels write channels last."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        format: torch.memory_format,
        device: torch.device,
    ) -> None:
        self._output = torch.empty(tuple(shape), dtype=dtype, device=device, memory_format=format)
        self.written = self._output
        if not self._output.is_contiguous(memory_format=torch.channels_last):
            self.written = torch.empty_like(self._output, memory_format=torch.channels_last)

    def finished(self) -> Tensor:
        if self.written is not self._output:
            self._output.copy_(self.written)
        return self._output


@dataclass(frozen=True)
class Epilogue:
    """What follows the sums, as the kernels take it.

    Attributes:
        bias: [O] or None.
        residual: as the output, channels last; or None.
        activation: its name or None.
        weight_sums: int32 [O] or None, with int8: what the zero point is taken off by.
        scale_weight: float32 [1], [O] or None.
        scales: of image, residual and output, the last one inverted.
        zeros: of image, residual and output.
    """

    bias: Tensor | None = None
    residual: Tensor | None = None
    activation: str | None = None
    weight_sums: Tensor | None = None
    scale_weight: Tensor | None = None
    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    zeros: tuple[int, int, int] = (0, 0, 0)

    @property
    def scalar(self) -> bool:
        """One scale for all filters."""
        return self.scale_weight is not None and self.scale_weight.numel() == 1


NO_EPILOGUE = Epilogue()


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
