"""The layers that stand for convolutions that ship: of ResNet-50 and MobileNetV2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.backends.gpu.shipped import meta

# images, channels, height and width, filters, kernel, stride, groups
LAYERS = {
    "1x1 64-256 56x56 n32": (32, 64, 56, 256, 1, 1, 1),
    "1x1 1024-256 14x14 n32": (32, 1024, 14, 256, 1, 1, 1),
    "3x3 128-128 28x28 n32": (32, 128, 28, 128, 3, 1, 1),
    "3x3 256-256 28x28 s2 n32": (32, 256, 28, 256, 3, 2, 1),
    "3x3 512-512 7x7 n1": (1, 512, 7, 512, 3, 1, 1),
    "7x7 3-64 224x224 s2 n32": (32, 3, 224, 64, 7, 2, 1),
    "dw3x3 32 112x112 n32": (32, 32, 112, 32, 3, 1, 32),
    "dw3x3 96 112x112 s2 n32": (32, 96, 112, 96, 3, 2, 96),
    "dw5x5 672 14x14 n1": (1, 672, 14, 672, 5, 1, 672),
}


def tensors_of(
    layer: tuple[int, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, tuple[Any, ...]]:
    """Image, weight, what is like the output, and the geometry of a layer."""
    n, c, size, o, kernel, stride, groups = layer
    out = (size + kernel // 2 * 2 - kernel) // stride + 1
    image, residual = (
        meta(n, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        for channels, side in ((c, size), (o, out))
    )
    weight = meta(o, c // groups, kernel, kernel, dtype=dtype)
    return image, weight, residual, ((stride,) * 2, (kernel // 2,) * 2, (1, 1), groups)
