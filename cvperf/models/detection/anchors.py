"""Anchors: boxes of set sizes and shapes, laid on a grid over each level of a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cvperf.errors import ArgumentError, describe


class AnchorGenerator(nn.Module):
    """Anchors of a feature pyramid, box for box torchvision's. It has no parameters.

    Args:
        sizes: for each level, the square roots of its anchors' areas, in pixels.
        aspect_ratios: for each level, height divided by width; or one such list for all levels.

    Raises:
        ArgumentError: the two do not have one entry a level.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]] | Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__()
        nested = [each for each in aspect_ratios if isinstance(each, Sequence)]
        alike = [each for each in aspect_ratios if not isinstance(each, Sequence)]
        ratios = nested or [alike] * len(sizes)
        if len(ratios) != len(sizes):
            raise ArgumentError(
                f"sizes and aspect_ratios must have one entry a level, got {describe(sizes)} and "
                f"{describe(aspect_ratios)}"
            )
        pairs = zip(sizes, ratios, strict=True)
        self.shapes = [_shapes(size, ratio) for size, ratio in pairs]

    def counts(self) -> list[int]:
        """Anchors at each place of each level."""
        return [len(shapes) for shapes in self.shapes]

    def forward(self, image_size: tuple[int, int], features: Sequence[Tensor]) -> Tensor:
        """The anchors of all levels, for any image of a batch.

        Args:
            image_size: (height, width) of the batch, in pixels.
            features: a map [N, C, H, W] for each level.

        Returns:
            [A, 4] corners ``(x1, y1, x2, y2)`` in pixels, float32, or float64 for such maps: level
            by level, in it row by row, at each place size within ratio.

        Raises:
            ArgumentError: there are not as many maps as levels.
        """
        if len(features) != len(self.shapes):
            raise ArgumentError(
                f"expected {len(self.shapes)} feature maps, one for each level of anchors, got "
                f"{len(features)}"
            )
        dtype = torch.promote_types(features[0].dtype, torch.float32)
        levels = [
            _lay(shapes.to(each.device, dtype), image_size, each)
            for shapes, each in zip(self.shapes, features, strict=True)
        ]
        return torch.cat(levels)


def _shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors [K, 4] about the origin, rounded to whole pixels as torchvision's are."""
    root = torch.tensor(ratios, dtype=torch.float32).sqrt()
    side = torch.tensor(sizes, dtype=torch.float32)
    width, height = (1 / root)[:, None] * side, root[:, None] * side
    return (torch.stack([-width, -height, width, height], dim=-1).reshape(-1, 4) / 2).round()


def _lay(shapes: Tensor, image_size: tuple[int, int], feature: Tensor) -> Tensor:
    """The shapes [K, 4] at each place of a map: [rows * columns * K, 4]."""
    rows, columns = feature.shape[-2:]
    y = torch.arange(rows, device=shapes.device, dtype=shapes.dtype) * (image_size[0] // rows)
    x = torch.arange(columns, device=shapes.device, dtype=shapes.dtype)
    x = x * (image_size[1] // columns)
    corner = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    return (corner.repeat(1, 1, 2) + shapes).reshape(-1, 4)
