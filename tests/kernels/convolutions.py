"""A convolution to be tested: its sizes, and random tensors of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One convolution."""

    image: tuple[int, int, int, int]
    filters: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    dtype: torch.dtype = torch.float32
    channels_last: bool = True

    @property
    def geometry(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def tensor(self, *shape: int) -> Tensor:
        made = torch.randn(shape, dtype=torch.float64).to(self.dtype)
        if len(shape) == 4 and self.channels_last:
            made = made.contiguous(memory_format=torch.channels_last)
        return made

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image, weight and a tensor like the output."""
        image = self.tensor(*self.image)
        weight = self.tensor(self.filters, self.image[1] // self.groups, *self.kernel)
        shape = torch.nn.functional.conv2d(
            image.float(), weight.float(), None, *self.geometry
        ).shape
        return image, weight, self.tensor(*shape)
