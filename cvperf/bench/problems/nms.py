"""Non-maximum suppression in its four forms, over layouts of boxes."""

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
    def title(self) -> str:
        """Its name in the shape lists, without what is unusual."""
        return f"{self.boxes} {self.arrangement}"

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


@dataclass(frozen=True, kw_only=True)
class BatchedNmsShape(NmsShape):
    """``batched_nms(boxes[n, 4], scores[n], idxs[n], iou_threshold)`` -> indices kept."""

    op: ClassVar[str] = "batched_nms"

    classes: int

    @property
    def title(self) -> str:
        return f"{super().title} {self.classes} classes"

    @property
    def bytes(self) -> int:
        return super().bytes + 8 * self.boxes

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {**super().numbers, "classes": self.classes}

    def problem(self, seed: int = 0, device: str = "cpu") -> BatchedNms:
        return BatchedNms(self, seed, device)


class BatchedNms(Nms):
    """And a class of each box, int64 [N]."""

    def __init__(self, shape: BatchedNmsShape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        random = generator(seed + 1, device)
        self.idxs = torch.randint(shape.classes, (shape.boxes,), generator=random, device=device)

    def reference(self) -> Tensor:
        from torchvision.ops import batched_nms

        return batched_nms(self.boxes.double(), self.scores.double(), self.idxs, self.iou_threshold)


@dataclass(frozen=True, kw_only=True)
class NmsPaddedShape(NmsShape):
    """``nms_padded(boxes[images, n, 4], scores[images, n], iou_threshold, max_output)``."""

    op: ClassVar[str] = "nms_padded"

    images: int
    max_output: int

    @property
    def title(self) -> str:
        return f"{self.images}x{super().title} top{self.max_output}"

    @property
    def bytes(self) -> int:
        values = 5 * self.boxes * self.torch_dtype.itemsize
        return self.images * (values + 8 * (self.max_output + 1))

    @property
    def size(self) -> float:
        return float(self.images * self.boxes)

    @property
    def numbers(self) -> Mapping[str, Any]:
        own = {"images": self.images, "max_output": self.max_output}
        return {**super().numbers, **own}

    def problem(self, seed: int = 0, device: str = "cpu") -> NmsPadded:
        return NmsPadded(self, seed, device)


class NmsPadded(Nms):
    """Boxes [B, N, 4] and scores [B, N]. The answer is what is kept, as image * N + index."""

    shape: NmsPaddedShape

    def __init__(self, shape: NmsPaddedShape, seed: int, device: str) -> None:
        images = [Nms(shape, seed + i, device) for i in range(shape.images)]
        self.shape = shape
        self.boxes = torch.stack([image.boxes for image in images])
        self.scores = torch.stack([image.scores for image in images])
        self.iou_threshold, self.max_output = shape.iou_threshold, shape.max_output

    def reference(self) -> Tensor:
        from torchvision.ops import nms

        kept = [
            i * self.shape.boxes + nms(boxes, scores, self.iou_threshold)[: self.max_output]
            for i, (boxes, scores) in enumerate(
                zip(self.boxes.double(), self.scores.double(), strict=True)
            )
        ]
        return torch.cat(kept)

    def numbered(self, indices: Tensor) -> Tensor:
        """The answer from padded indices [B, max_output]."""
        first = torch.arange(self.shape.images, device=indices.device) * self.shape.boxes
        return (indices + first[:, None])[indices >= 0]


@dataclass(frozen=True, kw_only=True)
class SoftNmsShape(NmsShape):
    """``soft_nms(boxes[n, 4], scores[n])`` -> indices and decayed scores. Whole pixels."""

    op: ClassVar[str] = "soft_nms"

    method: str
    iou_threshold: float = 0.3001
    """Not 0.3, which is the IoU of many pairs of boxes on whole pixels: it rounds either way."""
    sigma: float = 0.5
    score_threshold: float = 0.001

    @property
    def title(self) -> str:
        return f"{super().title} {self.method}"

    @property
    def numbers(self) -> Mapping[str, Any]:
        own = {"method": self.method, "sigma": self.sigma, "score_threshold": self.score_threshold}
        return {**super().numbers, **own}

    def problem(self, seed: int = 0, device: str = "cpu") -> SoftNms:
        return SoftNms(self, seed, device)


class SoftNms(Nms):
    """Boxes on whole pixels, as OpenCV takes no others.

    The answer is the score of every box, 0 for those not selected.
    """

    shape: SoftNmsShape

    def __init__(self, shape: SoftNmsShape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        self.boxes = self.boxes.round()

    def reference(self) -> Tensor:
        from torchvision.ops import box_iou

        shape, boxes, waiting = self.shape, self.boxes.double(), self.scores.double()
        answer = torch.zeros_like(waiting)
        while (score := float(waiting.max())) >= shape.score_threshold:
            best = int(waiting.argmax())
            answer[best] = score
            overlap = box_iou(boxes[best : best + 1], boxes)[0].nan_to_num(0.0)
            if shape.method == "linear":
                waiting = waiting * (1 - overlap.where(overlap > shape.iou_threshold, 0.0))
            else:
                waiting = waiting * torch.exp(-(overlap**2) / shape.sigma)
            waiting[best] = -1.0
        return answer

    def scattered(self, indices: Tensor, scores: Tensor) -> Tensor:
        """The answer from the selected boxes and their scores."""
        return torch.zeros_like(self.scores).scatter(0, indices, scores)

    def error(self, expected: Tensor, answer: Tensor) -> float:
        """The share of boxes whose score is off by more than rounding: two scores that are equal to
        the last bit may be selected either way, and that changes the scores of others."""
        return float(((expected - answer).abs() > 1e-4).double().mean())


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
