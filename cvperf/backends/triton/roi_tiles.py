"""Which boxes touch which tile of a map; the backwards of RoI Align and RoI pooling ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.backends.gpu import model
from cvperf.backends.gpu.configs import Config
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import roi_tiles as kernels

LIST_INSTRUCTIONS = 3300
"""Of the 4 warps of list_boxes for 1,024 boxes (counted in what compiles)."""


@dataclass(frozen=True)
class Tiles:
    """The boxes of every tile of all maps; list_boxes says how they are laid out."""

    count: int
    lists: Tensor
    begins: Tensor
    lengths: Tensor


def boxes_of_tiles(
    places: Tensor, extents: Tensor, images: int, sizes: Sequence[tuple[int, int]], tile: int
) -> Tiles:
    """Runs list_boxes. Takes 4 K x (tiles of one image of the largest map) bytes."""
    each = [-(-height // tile) * -(-width // tile) for height, width in sizes]
    count, device = places.shape[0], places.device
    tiles = Tiles(
        images * sum(each),
        torch.empty(count * max(each), dtype=torch.int32, device=device),
        torch.empty(images * sum(each), dtype=torch.int64, device=device),
        torch.empty(images * sum(each), dtype=torch.int32, device=device),
    )
    heights, widths = zip(*sizes, strict=True)
    block = min(1024, max(32, 1 << (count - 1).bit_length()))
    launch(
        kernels.list_boxes,
        (tiles.count,),
        *(places, extents, tiles.lists, tiles.begins, tiles.lengths),
        *(count, images, heights, widths, max(each)),
        config=Config.of(4, 1, BLOCK=block),
        LEVELS=len(sizes),
        TILE=tile,
    )
    return tiles


def lists_seconds(gpu: model.Architecture, tiles: int, boxes: int) -> float:
    """Predicted seconds of list_boxes, without its launch: each tile looks at each box.

    Bound by issuing them; 7 blocks fit a processor by their registers, and wait at the barriers of
    the prefix sums. The tables of 1,000 boxes stay in L1.
    """
    instructions = -(-boxes // 1024) * LIST_INSTRUCTIONS
    work = model.Tiles(tiles, instructions, "issue", 0.0, 0.0, blocks=7, efficiency=0.5)
    return model.seconds(gpu, work, launches=0)
