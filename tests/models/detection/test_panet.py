"""PANet's own parts: the way up, pooling from every level, fusion by the maximum."""

import torch
import torch.nn.functional as F
from torch import nn

from cvperf import ops
from cvperf.models.detection.backbone import create_backbone
from cvperf.models.detection.panet import (
    EveryLevelPool,
    FusedBoxHead,
    FusedMaskHead,
    FusedMaskPredictor,
    PathAggregation,
)

BOXES = [torch.tensor([[3.0, 4.0, 30.0, 40.0]]), torch.tensor([[8.0, 8.0, 60.0, 33.0]] * 2)]


def pyramid() -> list[torch.Tensor]:
    return [torch.rand(2, 8, 64 // stride, 64 // stride) for stride in (4, 8, 16, 32)]


def test_the_way_up_keeps_names_and_sizes():
    small = create_backbone("small").eval()
    image = torch.rand(1, 3, 64, 64)
    before, after = small(image), PathAggregation(small)(image)
    assert list(after) == ["0", "1", "2", "3", "pool"]
    assert [each.shape for each in after.values()] == [each.shape for each in before.values()]
    assert torch.equal(after["0"], before["0"])


class Given(nn.Module):
    """A pyramid that answers with the maps it was given."""

    out_channels = 8

    def __init__(self, maps: list[torch.Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {str(index): each for index, each in enumerate(self.maps)}


def test_the_coarsest_level_sees_the_finest():
    maps = [each.requires_grad_() for each in pyramid()]
    PathAggregation(Given(maps))(maps[0])["3"].sum().backward()
    assert maps[0].grad.abs().sum() > 0


def test_a_box_is_pooled_from_every_level():
    maps = pyramid()
    patches = EveryLevelPool(7)(maps, BOXES)
    assert [each.shape for each in patches] == [(3, 8, 7, 7)] * 4
    for patch, feature, stride in zip(patches, maps, (4, 8, 16, 32), strict=True):
        assert torch.equal(patch, ops.roi_align(feature, BOXES, 7, 1 / stride, sampling_ratio=2))


def test_levels_are_fused_by_the_maximum():
    head = FusedBoxHead(8, 5, levels=2)
    one, other = torch.rand(3, 8), torch.rand(3, 8)
    fused = torch.maximum(F.relu(head.first[0](one)), F.relu(head.first[1](other)))
    assert torch.equal(head([one, other]), F.relu(head.second(fused)))


def test_the_foreground_is_added_to_the_masks_of_the_class():
    head, predictor = FusedMaskHead(8, side=4, levels=2), FusedMaskPredictor(8, 3)
    maps, foreground = head([torch.rand(2, 8, 4, 4)] * 2)
    assert foreground.shape == (2, 1, 8, 8)
    labels = torch.tensor([2, 1])
    without = predictor((maps, torch.zeros_like(foreground)), labels)
    assert without.shape == (2, 8, 8)
    torch.testing.assert_close(predictor((maps, foreground), labels), without + foreground[:, 0])
