"""What 8 bits alone do to a network, by torch's own operators: the yardstick of an INT8 one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def rounded(module: nn.Module) -> nn.Module:
    """A copy whose convolutions compute in float32 on input and filters of 8 bits.

    An input is rounded by its own range, as if calibrated on it; each filter by its largest value.
    """
    twin = copy.deepcopy(module)
    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d):
            scale = layer.weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
            zeros = torch.zeros_like(scale, dtype=torch.int32)
            layer.weight.copy_(
                torch.fake_quantize_per_channel_affine(layer.weight, scale, zeros, 0, -127, 127)
            )
            layer.register_forward_pre_hook(_round_input)
    return twin


def _round_input(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    (image,) = arguments
    low, high = min(0.0, float(image.min())), max(0.0, float(image.max()))
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    return (torch.fake_quantize_per_tensor_affine(image, scale, zero, 0, 255),)
