"""R-CNN: each proposal is cut out, warped to one size, and classified by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf import ops
from cvperf.models.create import create_model
from cvperf.models.detection.box_head import BoxPredictor
from cvperf.models.detection.fast_rcnn import ProposalDetector, RememberedSearch
from cvperf.models.detection.faster_rcnn import Options, scale_of
from cvperf.models.detection.roi_heads import RoIHeads
from cvperf.models.detection.transform import Resize


class Pixels(nn.Module):
    """In place of a backbone: the image itself is the only map."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"image": image}


class Warp(nn.Module):
    """Cuts boxes out of an image and warps them to squares.

    Args:
        side: of a square, in pixels.
        context: share of it on each edge that shows what is around the box. What lies outside the
            image is 0, the mean of normalised images.
    """

    def __init__(self, side: int, context: float = 16 / 227) -> None:
        super().__init__()
        self.side = side
        self.context = context

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Squares [K, 3, side, side] of the boxes [n, 4] of all images, in their order."""
        grown = [self._with_context(each) for each in boxes]
        return ops.roi_align(features[0], grown, self.side, sampling_ratio=2, aligned=True)

    def _with_context(self, boxes: Tensor) -> Tensor:
        around = (boxes[:, 2:] - boxes[:, :2]) * self.context / (1 - 2 * self.context)
        return torch.cat([boxes[:, :2] - around, boxes[:, 2:] + around], dim=1)


class Classifier(nn.Module):
    """A network for whole images, up to a vector [K, width] of each."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        if name == "small":
            self.network = create_model("small_cnn", width, widths=(32, 64, 128, 128))
        else:
            self.network = create_model(name, width)

    def forward(self, squares: Tensor) -> Tensor:
        return F.relu(self.network(squares))


def rcnn(
    num_classes: int,
    backbone: str = "small",
    *,
    proposals: int = 300,
    side: int | None = None,
    resize: Options | None = None,
    roi_heads: Options | None = None,
) -> ProposalDetector:
    """R-CNN with random weights: Selective Search, a CNN on each warped region, box regression.

    Classes and boxes are learnt together; the paper trained support vector machines and the
    regression on the finished network's features.

    Args:
        num_classes: with the background.
        backbone: ``"small"`` or a classifier that :func:`cvperf.models.create_model` knows.
        proposals: of an image that Selective Search finds at most, where none are given.
        side: pixels of a warped region; 32 for ``"small"``, else 224.
        resize: options of :class:`Resize`; images keep their size by default.
        roi_heads: options of :class:`RoIHeads`, such as ``score_threshold``.

    Source: Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object
    detection and semantic segmentation", CVPR 2014.
    """
    width = scale_of(backbone).width
    parts = (
        Warp(side or (32 if backbone == "small" else 224)),
        Classifier(backbone, width),
        BoxPredictor(width, num_classes),
    )
    return ProposalDetector(
        Resize(**{"min_size": None, **(resize or {})}),
        Pixels(),
        RoIHeads(*parts, **{"samples": 64, **(roi_heads or {})}),
        RememberedSearch(proposals),
    )
