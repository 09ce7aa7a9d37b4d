"""The networks whose layers the shape lists hold, and the image size each is traced at.

Only the layers' sizes count, so weights are never loaded: build under ``torch.device("meta")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network and the image that it is traced on."""

    build: Callable[[], nn.Module]
    size: int
    """Height and width of the image in pixels."""
    channels: int = 3
    heavy: bool = False
    """Over 10 GFLOP an image: a batch of them takes seconds a call on a CPU, once for each peer."""


def _torchvision(name: str) -> Callable[[], nn.Module]:
    # No function in a function: a network's builder goes to the processes that race it.
    return partial(_built, name)


def _built(name: str) -> nn.Module:
    from torchvision.models import get_model

    return get_model(name, weights=None)


class UNet(nn.Module):
    """image [N, 1, H, W] to logits [N, 2, H, W]; H and W are multiples of 16.

    The channel plan of Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", 2015: 64 to 1,024. Unlike the paper's, the convolutions are padded, so that the
    skip connections need no crop.
    """

    def __init__(self) -> None:
        super().__init__()
        plan = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(
            _two_convolutions(c, o) for c, o in zip((1, *plan), plan, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        upward = list(zip(plan[:0:-1], plan[-2::-1], strict=True))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(c, o, 2, stride=2) for c, o in upward)
        self.up = nn.ModuleList(_two_convolutions(c, o) for c, o in upward)
        self.head = nn.Conv2d(plan[0], 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        for widen, block, skip in zip(self.widen, self.up, reversed(skips[:-1]), strict=True):
            x = block(torch.cat([skip, widen(x)], 1))
        return self.head(x)


def _two_convolutions(c: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU()
    )


class YoloBackbone(nn.Module):
    """image [N, 3, H, W] to features of stride 8, 16 and 32 with 128, 256 and 512 channels.

    Our own definition of the published layer plan of Ultralytics' YOLOv5s (release 6.0) up to its
    pyramid pooling: cross-stage-partial blocks (Wang et al., "CSPNet", 2020) with SiLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, 32, 6, stride=2, padding=2),
            _convolution(32, 64, 3, stride=2),
            CspBlock(64, 1),
        )
        self.p3 = nn.Sequential(_convolution(64, 128, 3, stride=2), CspBlock(128, 2))
        self.p4 = nn.Sequential(_convolution(128, 256, 3, stride=2), CspBlock(256, 3))
        self.p5 = nn.Sequential(
            _convolution(256, 512, 3, stride=2), CspBlock(512, 1), PyramidPooling(512)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.p3(self.stem(image))
        p4 = self.p4(p3)
        return p3, p4, self.p5(p4)


def _convolution(
    c: int, o: int, kernel: int, stride: int = 1, padding: int | None = None
) -> nn.Sequential:
    pad = kernel // 2 if padding is None else padding
    return nn.Sequential(
        nn.Conv2d(c, o, kernel, stride, pad, bias=False), nn.BatchNorm2d(o), nn.SiLU()
    )


class CspBlock(nn.Module):
    """Half of the channels pass ``depth`` residual bottlenecks, the other half none."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter = _convolution(channels, half, 1)
        self.bottlenecks = nn.ModuleList(
            nn.Sequential(_convolution(half, half, 1), _convolution(half, half, 3))
            for _ in range(depth)
        )
        self.bypass = _convolution(channels, half, 1)
        self.leave = _convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        for bottleneck in self.bottlenecks:
            y = y + bottleneck(y)
        return self.leave(torch.cat([y, self.bypass(x)], 1))


class PyramidPooling(nn.Module):
    """Max pooling over 5, 9 and 13 pixels, as three poolings of 5 in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = _convolution(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.leave = _convolution(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scales = [self.enter(x)]
        for _ in range(3):
            scales.append(self.pool(scales[-1]))
        return self.leave(torch.cat(scales, 1))


NETWORKS: Mapping[str, Network] = {
    "resnet50": Network(_torchvision("resnet50"), 224),
    "mobilenet_v2": Network(_torchvision("mobilenet_v2"), 224),
    "efficientnet_b0": Network(_torchvision("efficientnet_b0"), 224),
    "vgg16": Network(_torchvision("vgg16"), 224, heavy=True),
    "unet": Network(UNet, 256, channels=1, heavy=True),
    "yolo": Network(YoloBackbone, 640, heavy=True),
}
"""Those whose layers are in the shape lists."""

WHOLE_NETWORKS: Mapping[str, Network] = {
    **NETWORKS,
    "densenet121": Network(_torchvision("densenet121"), 224),
}
"""Those that are raced as a whole."""
