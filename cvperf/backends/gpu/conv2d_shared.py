"""What the convolutions of the GPU backends share: layouts and the epilogue."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.int8_operands import pack_int8
from cvperf.backends.gpu.layouts import packed_conv2d_int8_shape

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


def taps_first(weight: Tensor) -> Tensor:
    """[O, 1, kh, kw] as [kh * kw, O], so that a tap of many filters is one run of memory."""
    return weight.flatten(1).t().contiguous()


def pack_conv2d_int8(weight: Tensor, groups: int) -> Tensor:
    """Filters as rows of [kh, kw, C / groups], as pack_int8 has them; depthwise taps as rows."""
    if weight.shape[1] == 1 and groups > 1:
        shape = packed_conv2d_int8_shape(weight.shape, groups)
        packed = torch.zeros(shape, dtype=torch.int8, device=weight.device)
        packed[:, : weight.shape[0]] = taps_first(weight)
        return packed
    return pack_int8(weight.permute(2, 3, 1, 0).flatten(0, 2))


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
