"""SSD's default boxes: shapes relative to the image, centred on the places of each map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.errors import ArgumentError


class DefaultBoxes:
    """Box for box those of torchvision's ``DefaultBoxGenerator``.

    Each place has a square of the level's scale, one of the geometric mean with the next level's,
    and for each ratio a wide and a high box.

    Args:
        ratios: for each level, the long side over the short one, above 1.
        scales: for each level, and one more, the side of its square relative to the image.
        strides: for each level, pixels from place to place; by default the image's size over the
            map's.

    Raises:
        ArgumentError: there is not one scale more than levels, or not one stride a level.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2.
    """

    def __init__(
        self,
        ratios: Sequence[Sequence[float]],
        scales: Sequence[float],
        strides: Sequence[int] | None = None,
    ) -> None:
        if len(scales) != len(ratios) + 1 or (strides is not None and len(strides) != len(ratios)):
            raise ArgumentError(
                f"scales must be one more than the {len(ratios)} levels of ratios, and strides as "
                f"many; got {list(scales)} and {strides and list(strides)}"
            )
        levels = zip(ratios, scales, scales[1:], strict=False)
        self.shapes = [_shapes(*level) for level in levels]
        self.strides = strides

    def counts(self) -> list[int]:
        """Boxes at each place of each level."""
        return [len(shapes) for shapes in self.shapes]

    def __call__(self, image_size: tuple[int, int], features: Sequence[Tensor]) -> Tensor:
        """The boxes of all levels, for any image of a batch.

        Args:
            image_size: (height, width) of the batch, in pixels.
            features: a map [N, C, H, W] for each level.

        Returns:
            [A, 4] corners in pixels, dtype and device of the first map: level by level, in it row
            by row.
        """
        height, width = image_size
        centred = []
        for level, (shapes, map) in enumerate(zip(self.shapes, features, strict=True)):
            rows, columns = map.shape[-2:]
            down, across = float(rows), float(columns)
            if self.strides is not None:
                down, across = (size / self.strides[level] for size in image_size)
            y, x = ((torch.arange(n) + 0.5) / by for n, by in ((rows, down), (columns, across)))
            centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 1, 2)
            pairs = torch.broadcast_tensors(centres, shapes)
            centred.append(torch.cat(pairs, -1).reshape(-1, 4))
        boxes = torch.cat(centred)
        half, image = 0.5 * boxes[:, 2:], torch.tensor([width, height])
        corners = torch.cat([(boxes[:, :2] - half) * image, (boxes[:, :2] + half) * image], -1)
        return corners.to(features[0])


def _shapes(ratios: Sequence[float], scale: float, following: float) -> Tensor:
    """Widths and heights [K, 2] relative to the image, at most 1."""
    between = math.sqrt(scale * following)
    pairs = [[scale, scale], [between, between]]
    for ratio in ratios:
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        pairs += [[long, short], [short, long]]
    return torch.tensor(pairs).clamp(max=1)
