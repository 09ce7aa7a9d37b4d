"""Which places of the maps an object is learnt at, by how well they answer for it already.

Source: Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou


class Assigned(NamedTuple):
    """For each place that has an object."""

    places: Tensor
    """int64 [k], rising."""
    objects: Tensor
    """int64 [k]."""
    aims: Tensor
    """float [k], 0 to 1: the score that the place should give the object's class."""


class TaskAlignment:
    """An object's places are those within its box where class and box both fit best.

    A place's fit is ``score ** score_power * iou ** iou_power``. The score aimed at is its share
    of the object's best fit, times the object's best IoU.

    Args:
        places: how many an object has at most.
        score_power: of the score of the object's class.
        iou_power: of the overlap of the box with the object's.
    """

    def __init__(self, places: int = 10, score_power: float = 0.5, iou_power: float = 6.0) -> None:
        self.places = places
        self.score_power = score_power
        self.iou_power = iou_power

    @torch.no_grad()
    def __call__(
        self, scores: Tensor, boxes: Tensor, centres: Tensor, objects: Tensor, classes: Tensor
    ) -> Assigned:
        """Assign the objects of one image.

        Args:
            scores: float [A, C], 0 to 1, that each place gives each class.
            boxes: float [A, 4], corners in pixels, that each place answers.
            centres: float [A, 2], x and y of each place.
            objects: float [n, 4], the true boxes; n may be 0.
            classes: int64 [n], theirs, below C.
        """
        if not len(objects):
            none = classes.new_empty(0)
            return Assigned(none, none, scores.new_empty(0))
        overlap = box_iou(objects, boxes)
        fit = scores.T[classes] ** self.score_power * overlap**self.iou_power  # [n, A]
        owned = self._best(fit, _candidates(objects, centres))
        # A place within several objects is that one's whose box it answers best.
        owner = overlap.masked_fill(~owned, -1).argmax(0)
        places = torch.where(owned.any(0))[0]
        owners = owner[places]
        kept = torch.zeros_like(owned)
        kept[owners, places] = True
        fit, overlap = fit * kept, overlap * kept
        share = fit / fit.amax(1, keepdim=True).clamp(min=1e-9) * overlap.amax(1, keepdim=True)
        return Assigned(places, owners, share[owners, places])

    def _best(self, fit: Tensor, candidates: Tensor) -> Tensor:
        """bool [n, A]: the places of best fit among an object's candidates."""
        # Where nothing fits yet, all are 0: any candidate is then better than any other place.
        ranked = torch.where(candidates, fit, -1.0)
        best = ranked.topk(min(self.places, fit.shape[1]), dim=1).indices
        return torch.zeros_like(candidates).scatter(1, best, True) & candidates


def _candidates(objects: Tensor, centres: Tensor) -> Tensor:
    """bool [n, A]: centres within each box; of a box that holds none, the nearest."""
    from_corner = centres - objects[:, None, :2]
    to_corner = objects[:, None, 2:] - centres
    within = torch.cat([from_corner, to_corner], 2).amin(2) > 0
    middles = (objects[:, :2] + objects[:, 2:]) / 2
    nearest = (centres - middles[:, None]).square().sum(2).argmin(1)
    empty = torch.where(~within.any(1))[0]
    within[empty, nearest[empty]] = True
    return within
