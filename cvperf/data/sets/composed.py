"""Composed: Fashion-MNIST items pasted on crops of real photos, with exact truth.

Whatever is asked of a scene is known, because the scene was made: classes, boxes, masks, and how
much of each item is visible. Training items come from Fashion-MNIST's training images and test
items from its test images, on photos that no other split has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cvperf.data.photos import photo
from cvperf.data.samples import ImageSet
from cvperf.data.sets import fashion_mnist
from cvperf.data.sets.base import InMemory
from cvperf.data.sets.detection import detection_target
from cvperf.data.sets.splits import check_split, divide
from cvperf.errors import ArgumentError, check_count, check_number, describe

BACKGROUNDS = {
    "train": ("astronaut", "cat", "motorcycle", "pagoda"),
    "validation": ("camera", "coffee"),
    "test": ("dahlia", "rocket"),
}
"""Split -> photos of :data:`cvperf.data.photos.PHOTOS` that its scenes lie on."""
KINDS = ("labels", "detection")
_PLACES = 10
"""How many places are tried for an item before it is left out."""
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


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it, in the order in which items were pasted.

    Attributes:
        image: uint8 [size, size, 3].
        owner: uint8 [size, size]: the item that a pixel shows, counted from 1; 0: the photo.
        labels: int64 [n].
        visible: float32 [n], share of an item's pixels that no later item hides.
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


def load(
    split: str,
    *,
    count: int | Mapping[str, int] = 1000,
    size: int = 128,
    items: Sequence[int] = (1, 5),
    kind: Literal["labels", "detection"] = "labels",
    scale: Sequence[float] = (1.0, 2.0),
    visible: float = 0.3,
    seed: int = 0,
    root: str | Path | None = None,
) -> ImageSet:
    """Scenes of split ``"train"``, ``"validation"`` or ``"test"``; scene i follows from (seed, i).

    Args:
        split: which. A tenth of Fashion-MNIST's training images is kept for ``"validation"``.
        count: how many scenes, or of each split: ``{"train": 9000, "test": 1000}``.
        size: height and width in pixels.
        items: least and most in a scene. One that finds no place is left out.
        kind: ``"labels"`` gives float32 [10], 1 for each class in the scene, from a set in memory.
            ``"detection"`` gives ``boxes``, ``labels`` and ``masks`` of what is visible, and
            ``visible``, float32 [n], what share of the item that is; scenes are made when read.
        scale: least and most by which an item of 28 pixels is enlarged.
        visible: an item may hide others as long as each keeps this share of its pixels.
        seed: of everything that is drawn.
        root: the folder of Fashion-MNIST's files, as its own ``load`` takes it.

    Raises:
        ArgumentError: a range is not in order, or an item or a photo does not fit the size.
    """
    check_split(split)
    if kind not in KINDS:
        raise ArgumentError(f"kind must be one of {', '.join(KINDS)}; got {describe(kind)}")
    if isinstance(count, Mapping):
        if split not in count:
            raise ArgumentError(f"count has no {split!r}, only {', '.join(count) or 'nothing'}")
        count = count[split]
    check_count("count", count)
    check_count("seed", seed)
    check_number("visible", visible, "0 to 1")
    layout = Layout(size, _pair("items", items, 1), _pair("scale", scale, 0.25), visible)
    stock = _stock(split, root)
    _check_fit(layout, stock)
    # Splits share the seed; their scenes must not.
    key = (seed, list(BACKGROUNDS).index(split))
    if kind == "detection":
        return Detection(stock, layout, count, key)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    present = torch.zeros(count, len(fashion_mnist.CLASSES))
    for index in range(count):
        scene = compose(stock, layout, (*key, index))
        images[index] = _channels_first(scene.image)
        present[index, scene.labels] = 1
    return InMemory(images, present, fashion_mnist.CLASSES)


class Detection(Dataset[Any]):
    """Scenes made when read, with boxes, masks and how much is visible."""

    labels = None
    classes = fashion_mnist.CLASSES

    def __init__(self, stock: Stock, layout: Layout, count: int, key: tuple[int, ...]) -> None:
        self.stock, self.layout, self.count, self.key = stock, layout, count, key

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        from torchvision import tv_tensors

        scene = compose(self.stock, self.layout, (*self.key, range(self.count)[index]))
        image = tv_tensors.Image(_channels_first(scene.image).contiguous())
        labels, boxes = torch.from_numpy(scene.labels), torch.from_numpy(scene.boxes)
        target = detection_target(image, boxes, labels, torch.from_numpy(scene.masks))
        return image, {**target, "visible": torch.from_numpy(scene.visible)}


def compose(stock: Stock, layout: Layout, key: tuple[int, ...]) -> Scene:
    """The scene of a key: a crop of a photo, then item after item, later ones on top.

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


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def _stock(split: str, root: str | Path | None) -> Stock:
    whole = fashion_mnist.load("test" if split == "test" else "train", root=root)
    if split != "test":
        chosen = divide(whole.labels, split, validation=0.1)
        whole = InMemory(whole.images[chosen], whole.labels[chosen], whole.classes)
    photos = [np.asarray(photo(name)) for name in BACKGROUNDS[split]]
    return Stock(whole.images[:, 0].numpy(), whole.labels.numpy(), photos)


def _check_fit(layout: Layout, stock: Stock) -> None:
    most = min(min(one.shape[:2]) for one in stock.photos)
    least = round(stock.items.shape[1] * layout.scale[1])
    if not least <= layout.size <= most:
        raise ArgumentError(
            f"size must be {least} (the largest item, scale {layout.scale[1]}) to {most} (the "
            f"smallest photo), got {layout.size}"
        )


def _pair(name: str, value: Any, least: float) -> Any:
    numbers = tuple(value) if isinstance(value, Sequence) else ()
    if len(numbers) != 2 or not least <= numbers[0] <= numbers[1]:
        raise ArgumentError(
            f"{name} must be two numbers in order, {least} or more, got {describe(value)}"
        )
    return numbers
