"""Backbones with a pyramid: torchvision's names, and a small one."""

import pytest
import torch
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from cvperf.errors import ArgumentError
from cvperf.models.detection.backbone import (
    channels_of,
    create_backbone,
    known_backbones,
    resnet_fpn,
    small_fpn,
)


def strides(backbone: torch.nn.Module) -> dict[str, int]:
    maps = backbone.eval()(torch.rand(1, 3, 128, 128))
    assert {each.shape[1] for each in maps.values()} == {channels_of(backbone)}
    return {name: 128 // each.shape[2] for name, each in maps.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        theirs = resnet_fpn_backbone(backbone_name=name, weights=None).state_dict()
        ours = resnet_fpn(name, norm="frozen").state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]


def test_the_small_one_has_levels_of_every_stride():
    assert strides(small_fpn()) == {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}


def test_a_pyramid_may_begin_at_a_coarser_level():
    for name in ("small", "resnet18"):
        backbone = create_backbone(name, levels=(1, 2, 3))
        assert strides(backbone) == {"0": 8, "1": 16, "2": 32, "pool": 64}


def test_weights_are_channels_last():
    for name in ("small", "resnet18"):
        for weight in create_backbone(name).parameters():
            if weight.dim() == 4:
                assert weight.is_contiguous(memory_format=torch.channels_last)


def test_every_name_that_is_known_can_be_made():
    with torch.device("meta"):
        for name in known_backbones():
            create_backbone(name)


def test_what_is_not_known_is_refused():
    with pytest.raises(ArgumentError, match="unknown backbone 'vgg16'"):
        create_backbone("vgg16")
    with pytest.raises(ArgumentError, match="norm must be one of batch, frozen; got 'group'"):
        create_backbone("resnet18", norm="group")
    with pytest.raises(ArgumentError, match="trainable_layers must be 0 to 5, got 6"):
        create_backbone("resnet18", trainable_layers=6)
