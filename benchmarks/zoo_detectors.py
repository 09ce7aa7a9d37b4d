"""A detector of torchvision, weights random, on a photo: optimised and eager, answers compared."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import cvperf
from cvperf.bench.peers.torch import inference
from cvperf.benchmarks import zoo_measure
from cvperf.benchmarks.zoo import Entry
from cvperf.data.photos import photo

SIDE = 800
"""Height and width of the photo in pixels; models with a size of their own resize it."""
NEAR_PX = 0.5
"""A box whose corners are all that near, with the same label, is the same box."""
NEAR_MASK = 0.05
"""A mask whose differences add up to no more of its sum of chances is the same mask."""


def row(entry: Entry, seconds: float = 1.0, only_times: bool = False) -> dict[str, Any]:
    """What the table holds about a detector, JSON's types only."""
    torch.manual_seed(0)
    model = entry.build()
    image = square("pagoda", SIDE)
    spread_scores(model)
    fast = cvperf.optimize(model, example_inputs=([image],))
    eager = copy.deepcopy(model).to(memory_format=torch.channels_last)
    runs = {"cvperf": lambda: fast([image]), "torch": lambda: eager([image])}
    found: dict[str, Any] = {"family": entry.family, "side": SIDE}
    if not only_times:
        found |= zoo_measure.coverage(fast.explain())
        with inference():
            found |= agreement(runs["cvperf"]()[0], runs["torch"]()[0])
    return found | zoo_measure.times(runs, seconds)


def square(name: str, side: int) -> Tensor:
    """A photo as detectors take it, [3, side, side] in 0..1."""
    from torchvision.transforms import functional

    return functional.to_tensor(functional.resize(photo(name), [side, side]))


@torch.no_grad()
def spread_scores(model: nn.Module) -> None:
    """Make some classes stand out: initial heads give every class the same, or next to nothing."""
    random = torch.Generator().manual_seed(0)
    for name, layer in model.named_modules():
        last = isinstance(layer, nn.Conv2d | nn.Linear) and any(
            part in name for part in ("cls", "classification_head", "bbox_pred", "regression_head")
        )
        if last:
            fan_in = layer.weight[0].numel()
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) * fan_in**-0.5)


def agreement(ours: dict[str, Tensor], eager: dict[str, Tensor]) -> dict[str, Any]:
    """How many boxes each has, how many of eager's ours has too, and how far apart these are."""
    boxes, others = ours["boxes"], eager["boxes"]
    found: dict[str, Any] = {"boxes": len(boxes), "torch_boxes": len(others)}
    if not len(boxes) or not len(others):
        return found | {"same_boxes": 0}
    apart = torch.cdist(others.double(), boxes.double(), p=float("inf"))
    apart[eager["labels"][:, None] != ours["labels"]] = torch.inf
    nearest, index = apart.min(1)
    same = nearest <= NEAR_PX
    scores = (eager["scores"] - ours["scores"][index]).abs()[same]
    if "masks" in eager and same.any():
        losses = _mask_losses(ours["masks"][index][same], eager["masks"][same])
        found["same_masks"] = int((losses <= NEAR_MASK).sum())
    return found | {
        "same_boxes": int(same.sum()),
        "largest_px": float(nearest[same].max()) if same.any() else 0.0,
        "largest_score": float(scores.max()) if same.any() else 0.0,
    }


def _mask_losses(masks: Tensor, exact: Tensor) -> Tensor:
    """Of masks [N, 1, H, W] of chances: summed differences over the sum, [N].

    Not an IoU: a random network's chances are near a half, and fall on either side of it.
    """
    apart, total = (each.double().flatten(1).sum(1) for each in ((masks - exact).abs(), exact))
    return apart / total.clamp(min=1.0)
