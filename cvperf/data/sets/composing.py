"""How a composed scene is made: a crop of a photo, items pasted on it, occluders before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

_PLACES = 10
"""How many places are tried for an item before it is left out."""
_MARGIN = 5
"""By how many pixels, less one, an occluder may reach beyond what it hides."""
_DARK = 25
"""Grey up to which a pixel beside an item is noise: Fashion-MNIST has faint ones around many."""


@dataclass(frozen=True)
class Stock:
    """What scenes of a split are made of."""

    items: np.ndarray
    """uint8 [N, 28, 28], black around the item."""
    labels: np.ndarray
    """int64 [N]."""
    photos: Sequence[np.ndarray]
    """Each uint8 [height, width, 3]."""


@dataclass(frozen=True)
class Layout:
    """How scenes are laid out."""

    size: int = 128
    """Height and width in pixels."""
    items: tuple[int, int] = (1, 5)
    """Least and most in a scene."""
    scale: tuple[float, float] = (1.0, 2.0)
    """Least and most by which an item of 28 pixels is enlarged."""
    visible: float = 0.3
    """An item may hide others as long as each keeps this share of its pixels."""
    hidden: tuple[float, float] = (0.0, 0.0)
    """Least and most share of what is seen of an item that an occluder hides in the end."""


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it, in the order in which items were pasted.

    Attributes:
        image: uint8 [size, size, 3].
        owner: uint8 [size, size]: the item that a pixel shows, counted from 1; 0: the photo.
        labels: int64 [n].
        visible: float32 [n], share of an item's pixels that nothing before it hides.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: np.ndarray
    visible: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """uint8 [n, size, size] of what is visible."""
        numbers = np.arange(1, len(self.labels) + 1, dtype=np.uint8)
        return (self.owner == numbers[:, None, None]).astype(np.uint8)

    @property
    def boxes(self) -> np.ndarray:
        """float32 [n, 4], XYXY in pixels, tight around what is visible."""
        masks = self.masks.astype(bool)
        columns: np.ndarray = np.logical_or.reduce(masks, axis=1)
        rows: np.ndarray = np.logical_or.reduce(masks, axis=2)
        size = masks.shape[1]
        first = columns.argmax(1), rows.argmax(1)
        end = size - columns[:, ::-1].argmax(1), size - rows[:, ::-1].argmax(1)
        return np.stack([*first, *end], 1).astype(np.float32)


def compose(stock: Stock, layout: Layout, key: tuple[int, ...]) -> Scene:
    """The scene of a key: a crop of a photo, item after item, later ones on top, then occluders.

    Args:
        stock: what it is made of.
        layout: how.
        key: numbers from which, with the stock, everything follows.
    """
    generator = np.random.RandomState(key)  # NumPy promises that its numbers never change
    image = _background(stock, layout.size, generator)
    owner = np.zeros((layout.size, layout.size), np.uint8)
    labels: list[int] = []
    seen, whole = np.zeros(0, np.int64), np.zeros(0, np.int64)  # pixels of each item
    for _ in range(generator.randint(layout.items[0], layout.items[1] + 1)):
        chosen = generator.randint(len(stock.items))
        pixels, mask = _enlarged(stock.items[chosen], generator.uniform(*layout.scale))
        tint = generator.uniform(0.6, 1.0, 3)
        for place in _places(layout.size, len(mask), generator):
            left = seen - np.bincount(owner[place][mask], minlength=len(seen) + 1)[1:]
            if (left >= layout.visible * whole).all():
                labels.append(stock.labels[chosen])
                seen, whole = (np.append(counts, mask.sum()) for counts in (left, whole))
                owner[place][mask] = len(labels)
                image[place][mask] = (pixels[mask][:, None] * tint).astype(np.uint8)
                break
    if layout.hidden[1]:
        for number in range(1, len(labels) + 1):
            _occlude(image, owner, number, layout.hidden, stock, generator)
        seen = np.bincount(owner.ravel(), minlength=len(labels) + 1)[1:]
    visible = (seen / whole).astype(np.float32)
    return Scene(image, owner, np.array(labels, np.int64), visible)


def cut_out(item: np.ndarray) -> np.ndarray:
    """Bool [28, 28]: pixels of an item (uint8), its dark inside included.

    A pixel belongs to it where there is a bright one on each of its four sides.
    """
    bright = item > _DARK
    reached = [
        np.logical_or.accumulate(bright, axis=0),
        np.logical_or.accumulate(bright[::-1], axis=0)[::-1],
        np.logical_or.accumulate(bright, axis=1),
        np.logical_or.accumulate(bright[:, ::-1], axis=1)[:, ::-1],
    ]
    inside: np.ndarray = np.logical_and.reduce(reached)
    return inside


def _background(stock: Stock, size: int, generator: np.random.RandomState) -> np.ndarray:
    """A crop of one photo, uint8 [size, size, 3], mirrored or not."""
    whole = stock.photos[generator.randint(len(stock.photos))]
    top = generator.randint(whole.shape[0] - size + 1)
    left = generator.randint(whole.shape[1] - size + 1)
    crop = whole[top : top + size, left : left + size]
    return (crop[:, ::-1] if generator.randint(2) else crop).copy()


def _occlude(
    image: np.ndarray,
    owner: np.ndarray,
    number: int,
    shares: tuple[float, float],
    stock: Stock,
    generator: np.random.RandomState,
) -> None:
    """Hide a share of what is seen of an item behind a piece of a photo, from one of four sides.

    The piece is as wide and high as what it hides, and a little more; other items stay in front.
    """
    turns, share = generator.randint(4), generator.uniform(*shares)
    piece = np.rot90(_background(stock, len(owner), generator), turns)
    # Views: what is done to them is done to the scene, whose side is now the upper one.
    turned, owners = np.rot90(image, turns), np.rot90(owner, turns)
    rows, columns = np.nonzero(owners == number)
    end = rows[np.argsort(rows, kind="stable")][min(int(share * len(rows)), len(rows) - 1)]
    more = generator.randint(1, _MARGIN, 3)
    place = (
        slice(max(rows.min() - more[0], 0), end),
        slice(max(columns.min() - more[1], 0), columns.max() + 1 + more[2]),
    )
    free = (owners[place] == 0) | (owners[place] == number)
    turned[place][free] = piece[place][free]
    owners[place][free] = 0


def _enlarged(item: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Its pixels, uint8 [side, side], and where it is, bool [side, side]."""
    side = round(len(item) * scale)
    mask = cut_out(item)
    if side == len(item):
        return item, mask
    to = (side, side)
    pixels = np.asarray(Image.fromarray(item).resize(to, Image.Resampling.BILINEAR))
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize(to, Image.Resampling.BILINEAR)
    return pixels, np.asarray(shares) > 127


def _places(
    size: int, side: int, generator: np.random.RandomState
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of squares within a scene."""
    for top, left in generator.randint(size - side + 1, size=(_PLACES, 2)).tolist():
        yield slice(top, top + side), slice(left, left + side)
