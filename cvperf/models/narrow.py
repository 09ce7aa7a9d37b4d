"""A narrow network that starts with the strongest channels of a wide one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvperf.errors import ArgumentError
from cvperf.models.small import SmallCNN


def narrow(wide: nn.Module, small: nn.Module) -> None:
    """Give a narrow network the channels of a trained one whose filters have the largest L1 norm.

    Layer by layer: its filters over the channels that the layer before has kept, in their order,
    with their batch norm; and of the head the columns of the channels that are left.

    Args:
        wide: trained; stays as it is.
        small: for the same images and classes, of as many layers, none of them wider; changed in
            place.

    Raises:
        ArgumentError: these are not two ``SmallCNN``, whose layers form a chain (a sum of branches
            would need the same channels of each), or they do not fit.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    if not isinstance(wide, SmallCNN) or not isinstance(small, SmallCNN):
        names = f"{type(wide).__name__} and {type(small).__name__}"
        raise ArgumentError(f"channels are taken from a small_cnn into a small_cnn, got {names}")
    layers, into = _layers(wide), _layers(small)
    _check(wide, small, layers, into)
    kept = torch.arange(layers[0][0].in_channels)
    with torch.no_grad():
        for (conv, norm), (own, own_norm) in zip(layers, into, strict=True):
            filters = conv.weight[:, kept]
            kept = strongest(filters, own.out_channels)
            own.weight.copy_(filters[kept])
            for name, value in norm.state_dict().items():
                own_norm.state_dict()[name].copy_(value[kept] if value.dim() else value)
        small.head.weight.copy_(wide.head.weight[:, kept])
        small.head.bias.copy_(wide.head.bias)


def strongest(filters: Tensor, count: int) -> Tensor:
    """int64 [count], rising: which of filters [N, C, H, W] have the largest L1 norm."""
    return filters.abs().sum((1, 2, 3)).topk(count).indices.sort().values


def _layers(model: SmallCNN) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    convs = [module for module in model.features if isinstance(module, nn.Conv2d)]
    norms = [module for module in model.features if isinstance(module, nn.BatchNorm2d)]
    return list(zip(convs, norms, strict=True))


def _check(
    wide: SmallCNN,
    small: SmallCNN,
    layers: list[tuple[nn.Conv2d, nn.BatchNorm2d]],
    into: list[tuple[nn.Conv2d, nn.BatchNorm2d]],
) -> None:
    widths, narrower = ([conv.out_channels for conv, _ in some] for some in (layers, into))
    if len(widths) != len(narrower) or any(a < b for a, b in zip(widths, narrower, strict=False)):
        raise ArgumentError(
            f"the narrow network's widths must be as many as the wide one's, {widths}, and none "
            f"larger; got {narrower}"
        )
    (channels, classes), own = (
        (some[0][0].in_channels, model.head.out_features)
        for some, model in ((layers, wide), (into, small))
    )
    if own != (channels, classes):
        raise ArgumentError(
            f"both networks must be for the same images: the wide one takes {channels} channels "
            f"to {classes} classes, the narrow one {own[0]} to {own[1]}"
        )
