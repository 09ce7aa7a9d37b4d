"""Detection tile by tile finds each object once, wherever the tiles' edges are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from cvperf.errors import ArgumentError
from cvperf.models.detection.tiles import detect_in_tiles, tiles_of

SIDE = 300


class Blobs:
    """A detector of bright rectangles: one box a colour, tight around what it sees of it."""

    def __init__(self, smallest: float = 0.0) -> None:
        self.smallest = smallest  # share of the picture's side below which an object is not seen
        self.pictures = 0

    def __call__(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.pictures += len(images)
        return [self.find(image) for image in images]

    def find(self, image: Tensor) -> dict[str, Tensor]:
        boxes, labels = [], []
        for value in image[0].unique().tolist():
            rows, columns = (image[0] == value).nonzero(as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if value and box[2] - box[0] >= self.smallest * image.shape[2]:
                boxes.append([float(side) for side in box])
                labels.append(1 if value < 0.5 else 2)
        # At random, so a piece may be surer than the whole.
        scores = [0.5 + 0.4 * value for value in torch.rand(len(boxes)).tolist()]
        return {
            "boxes": torch.tensor(boxes).view(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }


def picture(*objects: tuple[int, int, int, int, float], side: int = SIDE) -> Tensor:
    image = torch.zeros(3, side, side)
    for left, top, right, bottom, value in objects:
        image[:, top:bottom, left:right] = value
    return image


def boxes_of(found: dict[str, Tensor]) -> list[list[int]]:
    return sorted([round(side) for side in box] for box in found["boxes"].tolist())


@pytest.mark.parametrize("left", range(60, 110, 7))
def test_an_object_on_a_tiles_border_is_found_once_and_whole(left: int) -> None:
    image = picture((left, 40, left + 20, 65, 0.3))
    found = detect_in_tiles(Blobs(), image, 100, 0.3, whole=False)
    assert boxes_of(found) == [[left, 40, left + 20, 65]]


def test_an_object_on_a_corner_of_four_tiles_is_found_once() -> None:
    image = picture((90, 90, 115, 110, 0.3))
    assert boxes_of(detect_in_tiles(Blobs(), image, 100, 0.3)) == [[90, 90, 115, 110]]


def test_an_object_larger_than_the_overlap_is_found_by_the_whole_image() -> None:
    image = picture((50, 100, 250, 180, 0.3))
    assert boxes_of(detect_in_tiles(Blobs(), image, 100, 0.3)) == [[50, 100, 250, 180]]
    pieces = detect_in_tiles(Blobs(), image, 100, 0.3, whole=False)
    assert len(pieces["boxes"]) > 1


def test_objects_too_small_for_the_whole_image_are_found_in_tiles() -> None:
    image = picture((10, 10, 20, 20, 0.3), (92, 95, 104, 106, 0.4), (280, 280, 292, 295, 0.8))
    seen = Blobs(smallest=0.1)
    assert len(seen.find(image)["boxes"]) == 0
    found = detect_in_tiles(seen, image, 100, 0.2)
    assert boxes_of(found) == [[10, 10, 20, 20], [92, 95, 104, 106], [280, 280, 292, 295]]
    labels = dict(zip(map(tuple, found["boxes"].tolist()), found["labels"].tolist(), strict=True))
    assert labels[280.0, 280.0, 292.0, 295.0] == 2
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


def test_a_piece_is_no_piece_of_another_class() -> None:
    # At the edge of the first tile, and within a large object of the other class.
    image = picture((20, 20, 140, 140, 0.8), (88, 60, 100, 75, 0.3))
    found = detect_in_tiles(Blobs(), image, 100, 0.0)
    assert [88, 60, 100, 75] in boxes_of(found)
    assert [20, 20, 140, 140] in boxes_of(found)


def test_an_image_that_fits_into_a_tile_is_looked_at_once() -> None:
    detector = Blobs()
    found = detect_in_tiles(detector, picture((5, 5, 30, 30, 0.3), side=80), 100, 0.2)
    assert detector.pictures == 1
    assert boxes_of(found) == [[5, 5, 30, 30]]


def test_nothing_found_is_empty() -> None:
    found = detect_in_tiles(Blobs(), picture(), 100, 0.2)
    assert found["boxes"].shape == (0, 4)
    assert found["labels"].shape == found["scores"].shape == (0,)


@pytest.mark.parametrize(("height", "width"), [(250, 317), (100, 100), (60, 500), (101, 99)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_tiles_cover_the_image_and_share_what_was_asked(
    height: int, width: int, overlap: float
) -> None:
    covered = torch.zeros(height, width)
    tiles = tiles_of(height, width, 100, overlap)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(100, width), min(100, height))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    assert len(set(tiles)) == len(tiles)
    starts = sorted({left for left, _, _, _ in tiles})
    assert all(b - a <= round(100 * (1 - overlap)) for a, b in pairwise(starts))


@pytest.mark.parametrize(("size", "overlap"), [(0, 0.2), (-1, 0.2), (100, 1.0), (100, -0.1)])
def test_tiles_that_make_no_sense_are_refused(size: int, overlap: float) -> None:
    with pytest.raises(ArgumentError, match=r"size|overlap"):
        detect_in_tiles(Blobs(), picture(), size, overlap)
    with pytest.raises(ArgumentError, match=r"image must be image\[3, H, W\].*uint8"):
        detect_in_tiles(Blobs(), picture().to(torch.uint8), 100, 0.2)
