"""Backbones with a feature pyramid: torchvision's residual networks, and a small one of ours."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from cvperf.errors import ArgumentError, did_you_mean

Norm = Callable[[int], nn.Module]

_NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d}
_NETWORKS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
# From the last, which is trained first, to the first.
_STAGES = ("layer4", "layer3", "layer2", "layer1", "conv1", "bn1")


def known_backbones() -> list[str]:
    """Names that :func:`create_backbone` takes."""
    return ["small", *_NETWORKS]


def create_backbone(
    name: str = "small",
    *,
    trainable_layers: int = 5,
    extra_blocks: ExtraFPNBlock | None = None,
    norm: str = "batch",
    fpn_norm: Norm | None = None,
    levels: Sequence[int] = (0, 1, 2, 3),
) -> nn.Module:
    """A backbone with a feature pyramid, by its name, with random weights.

    Args:
        name: ``"small"`` for :class:`SmallFPN`, or a network of torchvision as for
            :func:`resnet_fpn`; the other arguments are those of these two.
    """
    if name == "small":
        return small_fpn(extra_blocks=extra_blocks, levels=levels)
    return resnet_fpn(name, trainable_layers, extra_blocks, norm, fpn_norm=fpn_norm, levels=levels)


def channels_of(backbone: nn.Module) -> int:
    """Channels of a pyramid's maps."""
    channels = backbone.out_channels
    assert isinstance(channels, int)
    return channels


def resnet_fpn(
    name: str = "resnet50",
    trainable_layers: int = 5,
    extra_blocks: ExtraFPNBlock | None = None,
    norm: str = "batch",
    *,
    fpn_norm: Norm | None = None,
    levels: Sequence[int] = (0, 1, 2, 3),
) -> nn.Module:
    """A residual network of torchvision with a feature pyramid, with torchvision's names.

    It takes a batch [N, 3, H, W] and answers with an ordered dict of maps [N, 256, h, w], finest
    first; ``out_channels`` is 256. Weights are random.

    Args:
        name: such as ``"resnet50"`` or ``"resnext50_32x4d"``.
        trainable_layers: how many of the stages learn, counted from the last; 5 is all.
        extra_blocks: what makes coarser maps than the network's; by default one more by pooling.
        norm: ``"batch"``, or ``"frozen"`` for the statistics of loaded weights.
        fpn_norm: the class of the pyramid's own norms; none by default.
        levels: which maps the pyramid is built on; 0 has stride 4, 3 has stride 32.

    Raises:
        ArgumentError: a name is unknown, or the number of stages is none.

    Source: He et al., "Deep Residual Learning", CVPR 2016; Xie et al., "Aggregated Residual
    Transformations", CVPR 2017; Lin et al., "Feature Pyramid Networks", CVPR 2017.
    """
    if name not in _NETWORKS:
        raise ArgumentError(
            f"unknown backbone {name!r}{did_you_mean(name, _NETWORKS)}. "
            f"Known: {', '.join(known_backbones())}"
        )
    if norm not in _NORMS:
        raise ArgumentError(f"norm must be one of {', '.join(_NORMS)}; got {norm!r}")
    if not 0 <= trainable_layers <= 5:
        raise ArgumentError(f"trainable_layers must be 0 to 5, got {trainable_layers}")
    body = getattr(resnet, name)(weights=None, norm_layer=_NORMS[norm])
    learning = _STAGES if trainable_layers == 5 else _STAGES[:trainable_layers]
    for key, parameter in body.named_parameters():
        parameter.requires_grad_(key.startswith(learning))
    finest = body.inplanes // 8  # channels of layer1; each stage doubles them
    made = BackboneWithFPN(
        body,
        return_layers={f"layer{level + 1}": str(index) for index, level in enumerate(levels)},
        in_channels_list=[finest * 2**level for level in levels],
        out_channels=256,
        extra_blocks=extra_blocks,
        norm_layer=fpn_norm,
    )
    return made.to(memory_format=torch.channels_last)


class SmallFPN(nn.Module):
    """A light residual network with a feature pyramid, for pictures of 100 to 300 pixels.

    Objects of 30 pixels are told apart by details of a few, so the first convolution sees every
    pixel, with few channels. One residual block a stage. It takes a batch [N, 3, H, W] and answers
    with an ordered dict of maps [N, out, h, w], finest first; ``out_channels`` is ``out``.

    Args:
        channels: of the stages, whose strides are 4, 8, 16 and 32.
        out: channels of the pyramid.
        extra_blocks: what makes coarser maps; by default one more by pooling.
        levels: which maps the pyramid is built on; 0 has stride 4, 3 has stride 32.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96, 128),
        out: int = 32,
        extra_blocks: ExtraFPNBlock | None = None,
        levels: Sequence[int] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        stem = channels[0] // 2
        self.stem = nn.Sequential(
            *_normed(3, stem // 2), nn.ReLU(), nn.MaxPool2d(2), *_normed(stem // 2, stem), nn.ReLU()
        )
        inputs = (stem, *channels)
        self.stages = nn.ModuleList(
            resnet.BasicBlock(before, after, stride=2, downsample=_normed(before, after, 2))
            for before, after in zip(inputs, channels, strict=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.levels = tuple(levels)
        self.fpn = FeaturePyramidNetwork(
            [channels[level] for level in levels], out, extra_blocks or LastLevelMaxPool()
        )
        self.out_channels = out

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps, x = [], self.stem(image)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        chosen = OrderedDict((str(i), maps[level]) for i, level in enumerate(self.levels))
        return self.fpn(chosen)


def small_fpn(
    channels: Sequence[int] = (32, 64, 96, 128),
    out: int = 32,
    *,
    extra_blocks: ExtraFPNBlock | None = None,
    levels: Sequence[int] = (0, 1, 2, 3),
) -> SmallFPN:
    """:class:`SmallFPN` in channels-last, with random weights."""
    made = SmallFPN(channels, out, extra_blocks, levels)
    return made.to(memory_format=torch.channels_last)


def _normed(inputs: int, filters: int, stride: int = 1) -> nn.Sequential:
    """A convolution with batch norm."""
    convolution = nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters))
