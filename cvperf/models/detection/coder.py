"""Boxes as four numbers relative to an anchor, the form in which a network answers them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# No box grows by more than this from its anchor, so that exp() of an untrained answer is finite.
_LOG_GROWTH = math.log(1000 / 16)


class BoxCoder:
    """Offsets of a box's centre and logarithms of its size, relative to an anchor, times weights.

    Args:
        weights: what centre x, centre y, width and height are multiplied by.

    Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic
    segmentation", CVPR 2014, appendix C.
    """

    def __init__(self, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        self.weights = weights

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """What :meth:`decode` makes the boxes of.

        Args:
            boxes: [..., 4] corners ``(x1, y1, x2, y2)``.
            anchors: the same for the anchor of each box; the two broadcast.

        Returns:
            [..., 4]: weighted ``(dx, dy, log dw, log dh)``.
        """
        size, anchor_size = boxes[..., 2:] - boxes[..., :2], anchors[..., 2:] - anchors[..., :2]
        centre = boxes[..., :2] + 0.5 * size
        anchor_centre = anchors[..., :2] + 0.5 * anchor_size
        weights = size.new_tensor(self.weights)
        moved = weights[:2] * (centre - anchor_centre) / anchor_size
        grown = weights[2:] * torch.log(size / anchor_size)
        return torch.cat([moved, grown], dim=-1)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """The boxes that a network's answers mean.

        Args:
            deltas: [..., 4] as :meth:`encode` makes them.
            anchors: [..., 4] corners; the two broadcast, so [N, C, 4] goes with ``[:, None]``.

        Returns:
            [..., 4] corners, at most 62.5 times as wide or high as the anchor; of half-precision
            deltas in the anchors' dtype.
        """
        deltas = deltas.to(torch.promote_types(deltas.dtype, anchors.dtype))
        deltas = deltas / deltas.new_tensor(self.weights)
        anchor_size = anchors[..., 2:] - anchors[..., :2]
        anchor_centre = anchors[..., :2] + 0.5 * anchor_size
        centre = deltas[..., :2] * anchor_size + anchor_centre
        half = 0.5 * (deltas[..., 2:].clamp(max=_LOG_GROWTH).exp() * anchor_size)
        return torch.cat([centre - half, centre + half], dim=-1)
