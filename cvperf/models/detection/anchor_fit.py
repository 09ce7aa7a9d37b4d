"""How well anchors cover the boxes of a data set, and anchors that cover them better.

Everything here is in pixels of the network's input. Sizes and ratios go into ``AnchorGenerator``,
and as ``anchors`` and ``ratios`` into the detectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cvperf.errors import ArgumentError, check_count, check_tensor, describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLDS = (0.5, 0.6, 0.7, 0.8)


_SIZE = 4
"""Strides that an anchor is large, as the authors of RetinaNet have it."""


@dataclass(frozen=True)
class Coverage:
    """How well anchors cover boxes."""

    recall: dict[float, float]
    """IoU -> share of boxes that an anchor overlaps by as much: no training can find more there."""
    mean_iou: float
    """Of each box with its best anchor."""
    matches: dict[float, float]
    """IoU -> how many anchors overlap a box by as much, on average: what it is learnt from."""

    def __str__(self) -> str:
        lines = [f"mean best IoU {self.mean_iou:.3f}"]
        lines += [
            f"IoU {iou:.2f}: {share:6.1%} of boxes, {self.matches[iou]:.1f} anchors each"
            for iou, share in self.recall.items()
        ]
        return "\n".join(lines)


def shapes_of(
    samples: Iterable[Any], *, min_size: int | None = None, max_size: int = 1333
) -> Tensor:
    """Widths and heights of a data set's boxes, as a detector sees them.

    Args:
        samples: a detection set of ``cvperf.data``, or any (image, target) whose target has
            ``boxes`` [n, 4] in pixels of the image [..., H, W].
        min_size: the detector's; None leaves images as they are.
        max_size: the detector's.

    Returns:
        float32 [n, 2].

    Raises:
        ArgumentError: there is no box.
    """
    found = []
    for image, target in samples:
        sides = image.shape[-2:]
        scale = min(min_size / min(sides), max_size / max(sides)) if min_size else 1.0
        boxes = torch.as_tensor(target["boxes"]).as_subclass(Tensor)
        found.append((boxes[:, 2:] - boxes[:, :2]).float() * scale)
    shapes = torch.cat(found) if found else torch.empty(0, 2)
    _check_shapes("samples", shapes)
    return shapes


def coverage(
    boxes: Tensor | Sequence[Tensor], anchors: Tensor, thresholds: Sequence[float] = THRESHOLDS
) -> Coverage:
    """How well anchors where they lie cover boxes where they lie.

    Args:
        boxes: [n, 4] corners in pixels, or such a tensor for each image.
        anchors: [A, 4], as ``AnchorGenerator`` lays them.
        thresholds: IoUs to report.

    Raises:
        ArgumentError: there is no box, no anchor, or a shape does not fit.
    """
    every = boxes if isinstance(boxes, Tensor) else torch.cat(list(boxes))
    for name, value in (("boxes", every), ("anchors", anchors)):
        check_tensor(name, value, f"{name}[n, 4]", ndim=2)
        if value.shape[1] != 4 or not len(value):
            raise ArgumentError(f"{name} must be [n, 4] with n of 1 or more, got {describe(value)}")
    best = every.new_zeros(len(every))
    counts = every.new_zeros(len(thresholds), len(every))
    for start in range(0, len(every), 1024):  # a table of all boxes by all anchors may be large
        overlap = box_iou(every[start : start + 1024], anchors.to(every))
        best[start : start + 1024] = overlap.amax(1)
        for row, iou in zip(counts, thresholds, strict=True):
            row[start : start + 1024] = (overlap >= iou).sum(1)
    return Coverage(
        {iou: (best >= iou).float().mean().item() for iou in thresholds},
        best.mean().item(),
        {iou: row.mean().item() for row, iou in zip(counts, thresholds, strict=True)},
    )


def shape_coverage(
    shapes: Tensor, anchors: Tensor, thresholds: Sequence[float] = THRESHOLDS
) -> Coverage:
    """As :func:`coverage`, of shapes alone: as though a box lay exactly on an anchor's centre.

    Args:
        shapes: [n, 2] widths and heights.
        anchors: [k, 2].
        thresholds: IoUs to report.
    """
    _check_shapes("shapes", shapes)
    _check_shapes("anchors", anchors)
    return coverage(_centred(shapes), _centred(anchors), thresholds)


def cluster_shapes(shapes: Tensor, count: int, *, seed: int = 0, rounds: int = 100) -> Tensor:
    """Shapes that are typical of many: k-means whose distance is 1 - IoU.

    Starts as k-means++ does, from shapes drawn far from those drawn before.

    Args:
        shapes: [n, 2] widths and heights.
        count: how many are wanted, n at most.
        seed: of the draw.
        rounds: at most; it ends when no shape changes its cluster.

    Returns:
        float32 [count, 2], by rising area.

    Raises:
        ArgumentError: a shape has no area, or there are fewer shapes than wanted.

    Source: Redmon and Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017; Arthur and
    Vassilvitskii, "k-means++", SODA 2007.
    """
    _check_shapes("shapes", shapes)
    check_count("count", count)
    if not 1 <= count <= len(shapes):
        raise ArgumentError(f"count must be 1 to the {len(shapes)} shapes there are, got {count}")
    shapes = shapes.float()
    middles = _spread(shapes, count, torch.Generator().manual_seed(seed))
    owner = None
    for _ in range(rounds):
        overlap = box_iou(_centred(shapes), _centred(middles))
        before, (best, owner) = owner, overlap.max(1)
        if before is not None and torch.equal(before, owner):
            break
        for index in range(count):
            # A cluster that lost all its shapes starts again at the one that is covered worst.
            mine = shapes[owner == index]
            middles[index] = mine.mean(0) if len(mine) else shapes[best.argmin()]
    return middles[middles.prod(1).argsort()]


def fit_anchors(
    shapes: Tensor, strides: Sequence[int], per_level: int = 3, *, seed: int = 0
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Anchor sizes and ratios for a pyramid that fit a data set.

    A box belongs to the level of which it is nearest four strides large: on a coarser one few
    anchors would lie well. Of each level's boxes :func:`cluster_shapes` finds the typical sizes and
    the typical ratios, apart, because ``AnchorGenerator`` makes every size in every ratio. A level
    with less than ``per_level`` boxes has the usual ones.

    Args:
        shapes: [n, 2] widths and heights, from :func:`shapes_of`.
        strides: of the levels, pixels from place to place, such as (8, 16, 32, 64).
        per_level: sizes, and ratios, of a level.
        seed: of the clusters.

    Returns:
        ``(sizes, ratios)``: for each level ``per_level`` square roots of areas in pixels, and as
        many heights over widths.

    Raises:
        ArgumentError: a shape has no area, or a number is not above 0.
    """
    _check_shapes("shapes", shapes)
    check_count("per_level", per_level)
    if not strides or min(*strides, per_level) < 1:
        raise ArgumentError(
            f"strides and per_level must be 1 or more, got {list(strides)} and {per_level}"
        )
    usual = _SIZE * torch.tensor(strides, dtype=torch.float32)
    level = (shapes.float().prod(1).sqrt()[:, None] / usual).log().abs().argmin(1)
    sizes, ratios = [], []
    for index, size in enumerate(usual.tolist()):
        mine = shapes[level == index]
        if len(mine) < per_level:
            sizes.append(tuple(size * 2 ** (i / per_level) for i in range(per_level)))
            ratios.append(tuple((torch.linspace(-1, 1, per_level + 2)[1:-1] * 2).exp2().tolist()))
            continue
        side = mine.float().prod(1, keepdim=True).sqrt()
        squares = cluster_shapes(side.repeat(1, 2), per_level, seed=seed)
        width, height = cluster_shapes(mine / side, per_level, seed=seed).unbind(1)
        sizes.append(tuple(squares[:, 0].tolist()))
        ratios.append(tuple((height / width).sort().values.tolist()))
    return sizes, ratios


def every_shape(
    sizes: Sequence[Sequence[float]], ratios: Sequence[Sequence[float]] | Sequence[float]
) -> Tensor:
    """Widths and heights [k, 2] of all anchors that ``AnchorGenerator`` makes of sizes and ratios,
    before it rounds them to whole pixels."""
    levels: Any = ratios if isinstance(ratios[0], Sequence) else [ratios] * len(sizes)
    pairs = [
        (size / math.sqrt(ratio), size * math.sqrt(ratio))
        for row, shares in zip(sizes, levels, strict=True)
        for size in row
        for ratio in shares
    ]
    return torch.tensor(pairs)


def draw_coverage(shapes: Tensor, anchors: Tensor, *, title: str = "") -> Figure:
    """A picture of boxes by width and height, coloured by their best IoU, and of the anchors.

    Args:
        shapes: [n, 2] widths and heights in pixels.
        anchors: [k, 2].
        title: above it; by default the mean best IoU.

    Returns:
        a matplotlib figure; ``figure.savefig(path)`` writes it.

    Raises:
        ImportError: matplotlib is not installed: pip install 'cvperf[report]'.
    """
    from matplotlib.figure import Figure

    _check_shapes("shapes", shapes)
    _check_shapes("anchors", anchors)
    best = box_iou(_centred(shapes), _centred(anchors.to(shapes))).amax(1)
    figure = Figure(figsize=(5, 4.2), layout="constrained")
    plot = figure.add_subplot()
    width, height = shapes.T.tolist()
    dots = plot.scatter(width, height, c=best.tolist(), s=6, cmap="viridis", vmin=0, vmax=1)
    width, height = anchors.T.tolist()
    plot.scatter(width, height, marker="s", s=36, facecolors="none", edgecolors="crimson")
    figure.colorbar(dots, label="IoU with the best anchor")
    plot.set(xlabel="width in pixels", ylabel="height in pixels")
    plot.set_xlim(left=0)
    plot.set_ylim(bottom=0)
    plot.set_title(title or f"{len(anchors)} anchors, mean best IoU {best.mean():.3f}")
    return figure


def _spread(shapes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The first middles [count, 2]: each drawn by its squared distance from those before it."""
    chosen = [int(torch.randint(len(shapes), (1,), generator=generator))]
    for _ in range(count - 1):
        distance = 1 - box_iou(_centred(shapes), _centred(shapes[chosen])).amax(1)
        weights = distance.clamp(min=1e-9).square()
        weights[chosen] = 0
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
    return shapes[chosen].clone()


def _centred(shapes: Tensor) -> Tensor:
    """Boxes [n, 4] of these widths and heights about the origin."""
    return torch.cat([-shapes, shapes], 1) / 2


def _check_shapes(name: str, shapes: Tensor) -> None:
    check_tensor(name, shapes, f"{name}[n, 2] widths and heights", ndim=2)
    if shapes.shape[1] != 2 or not len(shapes):
        raise ArgumentError(
            f"{name} must have boxes, [n, 2] widths and heights, got {describe(shapes)}"
        )
    if not (shapes > 0).all():
        raise ArgumentError(f"{name} must be widths and heights above 0, got {shapes.min().item()}")
