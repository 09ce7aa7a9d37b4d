"""Backbones of SSD: VGG-16 and MobileNetV3 with extra layers, under torchvision's names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v3_large, vgg16
from torchvision.ops import Conv2dNormActivation

NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
"""Of the MobileNet and of the heads on it."""


class VGG(nn.Module):
    """VGG-16 to six maps of an image of 300 x 300: 38, 19, 10, 5, 3 and 1 places a side.

    The two fully connected layers are convolutions, the first with holes (dilated), and four
    blocks follow. The finest map is scaled to a length of 20 a place, which is then learnt.
    """

    out_channels = (512, 1024, 512, 256, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        layers = vgg16(weights=None).features
        pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        layers[pools[2]].ceil_mode = True  # 75 places become 38, as in the paper
        self.scale_weight = nn.Parameter(torch.full((512,), 20.0))
        self.features = layers[: pools[3]]  # to conv4_3
        connected = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        )
        extra = [
            _extra(1024, 256, 512, padding=1, stride=2),
            _extra(512, 128, 256, padding=1, stride=2),
            _extra(256, 128, 256),
            _extra(256, 128, 256),
        ]
        for block in (connected, *extra):
            _fill(block, nn.init.xavier_uniform_)
        self.extra = nn.ModuleList([nn.Sequential(*layers[pools[3] : -1], connected), *extra])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.features(image)
        maps = [self.scale_weight.view(1, -1, 1, 1) * F.normalize(x)]
        return _follow(self.extra, x, maps)


class MobileNet(nn.Module):
    """MobileNetV3-Large, its tail halved, to six maps of strides 16 to 512.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.3.
    """

    out_channels = (672, 480, 512, 256, 256, 128)

    def __init__(self) -> None:
        super().__init__()
        layers = mobilenet_v3_large(weights=None, norm_layer=NORM, reduced_tail=True).features
        _fill(layers, partial(nn.init.normal_, std=0.03))
        last = max(i for i, layer in enumerate(layers) if getattr(layer, "_is_cn", False))
        opened = layers[last].block  # the map is taken where this block is at its widest
        self.features = nn.Sequential(
            nn.Sequential(*layers[:last], opened[0]),
            nn.Sequential(opened[1:], *layers[last + 1 :]),
        )
        channels = self.out_channels[1:]
        self.extra = nn.ModuleList(_light_extra(*pair) for pair in pairwise(channels))
        _fill(self.extra, partial(nn.init.normal_, std=0.03))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return _follow([*self.features, *self.extra], image, [])


def _follow(
    blocks: Sequence[nn.Module] | nn.ModuleList, x: Tensor, maps: list[Tensor]
) -> dict[str, Tensor]:
    """The maps so far and what each block makes of the one before, by name."""
    for block in blocks:
        x = block(x)
        maps.append(x)
    return OrderedDict((str(i), each) for i, each in enumerate(maps))


def _extra(inputs: int, between: int, filters: int, **third: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, between, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, filters, 3, **third),  # type: ignore[arg-type]
        nn.ReLU(inplace=True),
    )


def _light_extra(inputs: int, filters: int) -> nn.Sequential:
    half = filters // 2
    layer = partial(Conv2dNormActivation, norm_layer=NORM, activation_layer=nn.ReLU6)
    return nn.Sequential(
        layer(inputs, half, kernel_size=1),
        layer(half, half, kernel_size=3, stride=2, groups=half),
        layer(half, filters, kernel_size=1),
    )


def _fill(module: nn.Module, how: object) -> None:
    """Draw the weights of every convolution, and set its bias to 0."""
    assert callable(how)
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            how(each.weight)
            if each.bias is not None:
                nn.init.zeros_(each.bias)
