"""Non-maximum suppression over five layouts of boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.problems.base import Problem, Shape, generator

SIDE = 1000.0
"""Pixels on a side of the image for 1,000 boxes; it grows so that their density stays."""


@dataclass(frozen=True, kw_only=True)
class NmsShape(Shape):
    """``nms(boxes[n, 4], scores[n], iou_threshold)`` -> indices kept."""

    op: ClassVar[str] = "nms"

    boxes: int
    arrangement: str
    """How the boxes lie: a key of ARRANGEMENTS."""
    iou_threshold: float = 0.5
    layout: str = "n/a"

    @property
    def flop(self) -> int:
        return 0  # it depends on the boxes; the roofline is that of reading them

    @property
    def bytes(self) -> int:
        return self.boxes * (5 * self.torch_dtype.itemsize + 8)  # as if every box were kept

    @property
    def size(self) -> float:
        return float(self.boxes)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "boxes": (self.boxes, 4),
            "arrangement": self.arrangement,
            "iou_threshold": self.iou_threshold,
        }

    def problem(self, seed: int = 0, device: str = "cpu") -> Nms:
        return Nms(self, seed, device)


class Nms(Problem):
    """Boxes [N, 4] xyxy in pixels and scores [N], all different from one another."""

    shape: NmsShape

    def __init__(self, shape: NmsShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)
        boxes = ARRANGEMENTS[shape.arrangement](shape.boxes, random, device)
        self.boxes = boxes.to(shape.torch_dtype)
        # No ties: contenders may order equal scores as they like.
        order = torch.randperm(shape.boxes, generator=random, device=device)
        self.scores = ((order + 1) / (shape.boxes + 1)).to(shape.torch_dtype)
        self.iou_threshold = shape.iou_threshold

    @property
    def tolerance(self) -> float:
        # Two boxes whose IoU is the threshold to the last bit may fall either way in float32.
        return 1e-3

    def reference(self) -> Tensor:
        from torchvision.ops import nms

        return nms(self.boxes.double(), self.scores.double(), self.iou_threshold)

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """Of the boxes that either keeps, the share that the other does not."""
        kept, other = set(expected.tolist()), set(answer.tolist())
        return len(kept ^ other) / max(len(kept | other), 1)


def _uniform(count: int, random: torch.Generator, device: str) -> Tensor:
    """Anywhere, sides 1 to 61 pixels, as dense for every count."""
    side = SIDE * (count / 1000) ** 0.5
    corner = side * _rand(random, device, count, 2)
    return torch.cat([corner, corner + 1 + 60 * _rand(random, device, count, 2)], 1)


def _clustered(count: int, random: torch.Generator, device: str) -> Tensor:
    """Proposals: about fifty jittered boxes around each object."""
    objects = max(count // 50, 1)
    side = SIDE * (objects / 100) ** 0.5
    centre = side * _rand(random, device, objects, 2)
    extent = 20 + 180 * _rand(random, device, objects, 2)
    which = torch.randint(objects, (count,), generator=random, device=device)
    jitter = torch.randn((2, count, 2), generator=random, device=device)
    middle = centre[which] + 0.1 * extent[which] * jitter[0]
    half = 0.5 * extent[which] * (0.1 * jitter[1]).exp()
    return torch.cat([middle - half, middle + half], 1)


def _overlapping(count: int, random: torch.Generator, device: str) -> Tensor:
    """Every box overlaps every other: one is kept."""
    base = torch.tensor([100.0, 100.0, 300.0, 300.0], device=device)
    return base + 10 * _rand(random, device, count, 4)


def _disjoint(count: int, random: torch.Generator, device: str) -> Tensor:
    """A grid, in random order: every box is kept."""
    columns = int(count**0.5) + 1
    cell = torch.randperm(count, generator=random, device=device)
    corner = 20.0 * torch.stack([cell % columns, cell // columns], 1)
    return torch.cat([corner, corner + 10 + 8 * _rand(random, device, count, 2)], 1)


def _mixed(count: int, random: torch.Generator, device: str) -> Tensor:
    """Sides from 4 to 1,024 pixels, log-uniform."""
    side = 4 * SIDE * (count / 1000) ** 0.5
    corner = side * _rand(random, device, count, 2)
    return torch.cat([corner, corner + 4 * 256 ** _rand(random, device, count, 2)], 1)


def _rand(random: torch.Generator, device: str, *size: int) -> Tensor:
    return torch.rand(size, generator=random, device=device)


ARRANGEMENTS: Mapping[str, Callable[[int, torch.Generator, str], Tensor]] = {
    "uniform": _uniform,
    "clustered": _clustered,
    "overlapping": _overlapping,
    "disjoint": _disjoint,
    "mixed": _mixed,
}
