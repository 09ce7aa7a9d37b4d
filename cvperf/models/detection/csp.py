"""YOLO's backbone and neck: cross-stage partial blocks, and a pyramid that goes down and up again.

Source: Wang et al., "CSPNet: A New Backbone that can Enhance Learning Capability of CNN", CVPR
Workshops 2020; Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018; He et
al., "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import Conv2dNormActivation


def layer(inputs: int, filters: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution with batch norm and SiLU."""
    return Conv2dNormActivation(inputs, filters, kernel, stride, activation_layer=nn.SiLU)


class CSP(nn.Module):
    """Half of the channels pass through residual blocks, the other half around them.

    Args:
        inputs: channels.
        filters: channels of the answer.
        depth: how many blocks of two convolutions.
        residual: whether a block adds its input to its answer.
    """

    def __init__(self, inputs: int, filters: int, depth: int = 1, residual: bool = True) -> None:
        super().__init__()
        half = filters // 2
        self.through = layer(inputs, half, 1)
        self.around = layer(inputs, half, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(layer(half, half), layer(half, half)) for _ in range(depth)
        )
        self.join = layer(2 * half, filters, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        inner = self.through(x)
        for block in self.blocks:
            inner = inner + block(inner) if self.residual else block(inner)
        return self.join(torch.cat([inner, self.around(x)], 1))


class PoolPyramid(nn.Module):
    """Max pools of growing windows beside each other, so that a place sees far."""

    def __init__(self, channels: int, window: int = 5) -> None:
        super().__init__()
        self.narrow = layer(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(window, stride=1, padding=window // 2)
        self.join = layer(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.narrow(x)]
        for _ in range(3):  # a pool of a pool has the larger window
            maps.append(self.pool(maps[-1]))
        return self.join(torch.cat(maps, 1))


class Backbone(nn.Module):
    """An image [N, 3, H, W] to its maps of strides 8, 16 and 32.

    Args:
        width: channels at stride 2; they double with each stage.
        depth: blocks of the first stage; the inner ones have twice as many.
    """

    def __init__(self, width: int = 16, depth: int = 1) -> None:
        super().__init__()
        channels = [width * 2**stage for stage in range(5)]
        # Every pixel is seen, with few channels: small objects are told apart by details.
        self.stem = nn.Sequential(layer(3, width // 2), nn.MaxPool2d(2), layer(width // 2, width))
        self.stages = nn.ModuleList(
            nn.Sequential(layer(before, after, stride=2), CSP(after, after, blocks))
            for before, after, blocks in zip(
                channels, channels[1:], (depth, 2 * depth, 2 * depth, depth), strict=False
            )
        )
        self.pools = PoolPyramid(channels[-1])
        self.out_channels = channels[2:]

    def forward(self, image: Tensor) -> list[Tensor]:
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[1:3], self.pools(maps[3])]


class Neck(nn.Module):
    """Maps that know of the coarser ones, and then of the finer ones.

    Args:
        channels: of the maps, finest first; they stay what they are.
        depth: blocks of each join.
    """

    def __init__(self, channels: Sequence[int], depth: int = 1) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(
            CSP(fine + coarse, fine, depth, residual=False) for fine, coarse in pairs
        )
        self.halve = nn.ModuleList(layer(fine, fine, stride=2) for fine, _ in pairs)
        self.up = nn.ModuleList(
            CSP(fine + coarse, coarse, depth, residual=False) for fine, coarse in pairs
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        joined = list(maps)
        for level in reversed(range(len(self.down))):
            finer = F.interpolate(joined[level + 1], joined[level].shape[2:], mode="nearest")
            joined[level] = self.down[level](torch.cat([joined[level], finer], 1))
        for level, (halve, up) in enumerate(zip(self.halve, self.up, strict=True)):
            pair = [halve(joined[level]), joined[level + 1]]
            joined[level + 1] = up(torch.cat(pair, 1))
        return joined
