"""Composed: Fashion-MNIST items pasted on crops of real photos, with exact truth.

Whatever is asked of a scene is known, because the scene was made: classes, boxes, masks, and how
much of each item is visible. Training items come from Fashion-MNIST's training images and test
items from its test images, on photos that no other split has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from cvperf.data.sets.composing import Layout, Stock, compose
from cvperf.data.sets.detection import detection_target
from cvperf.data.sets.splits import check_split, divide
from cvperf.errors import ArgumentError, check_count, check_number, describe

BACKGROUNDS = {
    "train": (
        *("astronaut", "brick", "cat", "coins", "galaxies", "grass", "gravel", "motorcycle"),
        *("pagoda", "tissue"),
    ),
    "validation": ("camera", "coffee"),
    "test": ("dahlia", "rocket"),
}
"""Split -> photos of :data:`cvperf.data.photos.PHOTOS` that its scenes lie on."""
KINDS = ("labels", "detection")


def load(
    split: str,
    *,
    count: int | Mapping[str, int] = 1000,
    size: int = 128,
    items: Sequence[int] | Mapping[str, Sequence[int]] = (1, 5),
    kind: Literal["labels", "detection"] = "labels",
    scale: Sequence[float] = (1.0, 2.0),
    visible: float = 0.3,
    hidden: float | Sequence[float] = 0.0,
    channels: Literal[1, 3] = 3,
    seed: int = 0,
    root: str | Path | None = None,
) -> ImageSet:
    """Scenes of split ``"train"``, ``"validation"`` or ``"test"``; scene i follows from (seed, i).

    Args:
        split: which. A tenth of Fashion-MNIST's training images is kept for ``"validation"``.
        count: how many scenes, or of each split: ``{"train": 9000, "test": 1000}``.
        size: height and width in pixels.
        items: least and most in a scene, or of each split. One that finds no place is left out.
        kind: ``"labels"`` gives float32 [10], 1 for each class in the scene, from a set in memory.
            ``"detection"`` gives ``boxes``, ``labels`` and ``masks`` of what is visible, and
            ``visible``, float32 [n], what share of the item that is; scenes are made when read.
        scale: least and most by which an item of 28 pixels is enlarged.
        visible: an item may hide others as long as each keeps this share of its pixels.
        hidden: share of what is seen of each item that an occluder hides in the end, or least and
            most; occluders are pieces of the split's photos, over one side of an item.
        channels: 3, or 1 for the same pictures in grey.
        seed: of everything that is drawn.
        root: the folder of Fashion-MNIST's files, as its own ``load`` takes it.

    Raises:
        ArgumentError: a range is not in order, an item or a photo does not fit the size, or a
            number of channels is neither 1 nor 3.
    """
    check_split(split)
    if kind not in KINDS:
        raise ArgumentError(f"kind must be one of {', '.join(KINDS)}; got {describe(kind)}")
    scenes: int = _of_split("count", count, split)
    check_count("count", scenes)
    check_count("seed", seed)
    check_number("visible", visible, "0 to 1")
    if channels not in (1, 3):
        raise ArgumentError(f"channels must be 3, or 1 for grey, got {describe(channels)}")
    shares = (hidden, hidden) if isinstance(hidden, int | float) else hidden
    layout = Layout(
        size,
        _pair("items", _of_split("items", items, split), 1),
        _pair("scale", scale, 0.25),
        visible,
        _pair("hidden", shares, 0, 0.9),
    )
    stock = _stock(split, root)
    _check_fit(layout, stock)
    # Splits share the seed; their scenes must not.
    key = (seed, list(BACKGROUNDS).index(split))
    if kind == "detection":
        return Detection(stock, layout, scenes, key, channels)
    images = torch.empty(scenes, channels, size, size, dtype=torch.uint8)
    present = torch.zeros(scenes, len(fashion_mnist.CLASSES))
    for index in range(scenes):
        scene = compose(stock, layout, (*key, index))
        images[index] = _tensor(scene.image, channels)
        present[index, scene.labels] = 1
    return InMemory(images, present, fashion_mnist.CLASSES)


class Detection(Dataset[Any]):
    """Scenes made when read, with boxes, masks and how much is visible."""

    labels = None
    classes = fashion_mnist.CLASSES

    def __init__(
        self, stock: Stock, layout: Layout, count: int, key: tuple[int, ...], channels: int = 3
    ) -> None:
        self.stock, self.layout, self.count, self.key = stock, layout, count, key
        self.channels = channels

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        from torchvision import tv_tensors

        scene = compose(self.stock, self.layout, (*self.key, range(self.count)[index]))
        image = tv_tensors.Image(_tensor(scene.image, self.channels))
        labels, boxes = torch.from_numpy(scene.labels), torch.from_numpy(scene.boxes)
        target = detection_target(image, boxes, labels, torch.from_numpy(scene.masks))
        return image, {**target, "visible": torch.from_numpy(scene.visible)}


def _tensor(image: np.ndarray, channels: int) -> Tensor:
    """uint8 [channels, height, width] of uint8 [height, width, 3]."""
    if channels == 1:
        return torch.from_numpy(np.asarray(Image.fromarray(image).convert("L")).copy())[None]
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


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


def _of_split(name: str, value: Any, split: str) -> Any:
    """What a mapping has for the split, or the value that is for all."""
    if not isinstance(value, Mapping):
        return value
    if split not in value:
        raise ArgumentError(f"{name} has no {split!r}, only {', '.join(value) or 'nothing'}")
    return value[split]


def _pair(name: str, value: Any, least: float, most: float = math.inf) -> Any:
    numbers = tuple(value) if isinstance(value, Sequence) else ()
    if len(numbers) != 2 or not least <= numbers[0] <= numbers[1] <= most:
        bounds = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise ArgumentError(f"{name} must be two numbers in order, {bounds}, got {describe(value)}")
    return numbers
