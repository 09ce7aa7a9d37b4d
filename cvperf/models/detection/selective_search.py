"""Selective Search: boxes around what hangs together in an image, without any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cvperf.errors import ArgumentError, check_tensor, describe

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_COLOUR_BINS = 25
_TEXTURE_BINS = 10
_AXES = 4  # of the image's slope; each counts upwards and downwards, so 8 directions
_STEEPEST = 0.3  # a slope of this a pixel or more is in the last bin


@dataclass(frozen=True)
class Grouping:
    """One way to cut an image into regions and join them; several find more than one does.

    Args:
        space: ``"hsv"``, ``"lab"`` or ``"rgb"``: colours are cut and compared in it.
        scale: how large the first regions become.
        colour: whether regions of like colour join first, beside texture, size and fill.
    """

    space: str = "hsv"
    scale: float = 50
    colour: bool = True


FAST = tuple(
    Grouping(space, scale, colour)
    for space in ("hsv", "lab")
    for scale in (50, 100)
    for colour in (True, False)
)
"""The eight groupings that the paper calls fast."""


def selective_search(
    image: Tensor,
    most: int = 300,
    *,
    groupings: Sequence[Grouping] = FAST,
    least_region: int = 20,
    least_side: int = 8,
    seed: int = 0,
) -> Tensor:
    """Boxes that may hold an object, the likelier ones first.

    An image is cut into small regions of one colour; then, over and over, the two neighbours that
    are most alike become one, until the image is one region. Each region on the way is a box.
    Alike means: in colour and texture (histograms), both small, and filling their common box.

    Args:
        image: [3, H, W] of a float dtype, values 0 to 1.
        most: boxes at most.
        groupings: ways to cut and to join; their boxes are put together.
        least_region: pixels of a first region.
        least_side: pixels, below which a box is left out.
        seed: boxes are ordered by their place in the hierarchy times a random number, so that
            large ones are not all before small ones. The same seed gives the same order.

    Returns:
        float32 [n, 4] corners ``(x1, y1, x2, y2)`` in pixels on the CPU, each box once.

    Raises:
        ArgumentError: the image is not such a tensor, or a colour space is unknown.
        ImportError: scikit-image is not installed.

    Complexity: for each grouping R regions at first, R * R comparisons; 0.1 to 0.3 seconds for 128
    x 128 pixels.

    Source: Uijlings, van de Sande, Gevers and Smeulders, "Selective Search for Object Recognition",
    IJCV 2013; Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004.
    """
    dtypes = (torch.float16, torch.float32, torch.float64)
    check_tensor("image", image, "image[3, H, W], values 0 to 1", ndim=3, dtypes=dtypes)
    if image.shape[0] != 3:
        raise ArgumentError(f"image must be image[3, H, W], got {describe(image)}")
    pixels = image.detach().cpu().float().permute(1, 2, 0).numpy()
    random = np.random.default_rng(seed)
    boxes, ranks = [], []
    for hierarchy in _hierarchies(pixels, groupings, least_region):
        place = np.arange(len(hierarchy), 0, -1)  # the whole image is first
        boxes.append(hierarchy)
        ranks.append(place * random.random(len(hierarchy)))
    ordered = np.concatenate(boxes)[np.argsort(np.concatenate(ranks), kind="stable")]
    sides = ordered[:, 2:] - ordered[:, :2]
    ordered = ordered[(sides >= least_side).all(axis=1)]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return torch.from_numpy(ordered[np.sort(first)][:most].astype(np.float32))


def _hierarchies(
    pixels: Floats, groupings: Sequence[Grouping], least_region: int
) -> Iterator[Integers]:
    """For each grouping the boxes [2 * R - 1, 4] of its regions, in the order they came to be."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise ImportError(
            "Selective Search needs scikit-image: pip install 'cvperf[train]'"
        ) from error
    spaces = {each.space: _in_space(pixels, each.space) for each in groupings}
    textures = {space: _texture(values) for space, values in spaces.items()}
    cuts = {
        (space, scale): felzenszwalb(spaces[space], scale=scale, sigma=0.8, min_size=least_region)
        for space, scale in {(each.space, each.scale) for each in groupings}
    }
    for each in groupings:
        labels = cuts[each.space, each.scale]
        kinds = [_histograms(labels, textures[each.space], _TEXTURE_BINS)]
        if each.colour:
            colours = np.minimum(spaces[each.space] * _COLOUR_BINS, _COLOUR_BINS - 1)
            kinds.append(_histograms(labels, colours.astype(np.int64), _COLOUR_BINS))
        yield _Regions(labels, np.concatenate(kinds, axis=1)).join()


def _in_space(pixels: Floats, space: str) -> Floats:
    """Pixels [H, W, 3] in another colour space, each channel 0 to 1."""
    from skimage import color

    if space == "rgb":
        return pixels
    if space == "hsv":
        return color.rgb2hsv(pixels).astype(np.float32)
    if space == "lab":
        lab = color.rgb2lab(pixels) + np.array([0, 128, 128])
        return np.clip(lab / (100, 255, 255), 0, 1).astype(np.float32)
    raise ArgumentError(f"space must be one of rgb, hsv, lab; got {space!r}")


def _texture(values: Floats) -> Integers:
    """The bins [H, W, 3 * 8] of each channel's slope in eight directions."""
    from scipy.ndimage import gaussian_filter1d

    smooth = [gaussian_filter1d(values, 1.0, axis=axis) for axis in (0, 1)]
    down = gaussian_filter1d(smooth[1], 1.0, axis=0, order=1)
    right = gaussian_filter1d(smooth[0], 1.0, axis=1, order=1)
    angles = np.arange(_AXES) * np.pi / _AXES
    slopes = np.concatenate([np.cos(a) * right + np.sin(a) * down for a in angles], axis=2)
    both = np.concatenate([slopes, -slopes], axis=2).clip(min=0)
    bins = (both * (_TEXTURE_BINS / _STEEPEST)).astype(np.int64)
    return np.minimum(bins, _TEXTURE_BINS - 1)


def _histograms(labels: Integers, bins: Integers, count: int) -> Floats:
    """Of each region and channel how often each bin occurs: [R, channels * count], sum 1.

    Args:
        labels: [H, W], 0 to R - 1.
        bins: [H, W, channels], 0 to ``count - 1``.
        count: bins of a channel.
    """
    regions, channels = int(labels.max()) + 1, bins.shape[2]
    places = labels[..., None] * (channels * count) + np.arange(channels) * count + bins
    counted = np.bincount(places.ravel(), minlength=regions * channels * count)
    table = counted.reshape(regions, channels * count).astype(np.float32)
    return table / table.sum(axis=1, keepdims=True)


class _Regions:
    """Regions that join, and how alike those are that touch.

    A joined region takes the place of one of its two; the other's place is empty from then on.

    Args:
        labels: [H, W], 0 to R - 1.
        histograms: [R, bins].
    """

    def __init__(self, labels: Integers, histograms: Floats) -> None:
        self.histograms = histograms.copy()
        self.pixels = np.bincount(labels.ravel()).astype(np.float32)
        self.image = float(labels.size)
        self.boxes = _boxes(labels)
        self.touching = _touching(labels)
        self.alike = np.full(self.touching.shape, -np.inf, dtype=np.float32)
        for region in range(len(self.boxes)):
            self._compare(region)

    def join(self) -> Integers:
        """Join until one is left: the boxes [2 * R - 1, 4] of all regions there ever were."""
        boxes = [*self.boxes.copy()]
        for _ in range(len(self.boxes) - 1):
            kept, gone = np.unravel_index(np.argmax(self.alike), self.alike.shape)
            self._merge(int(kept), int(gone))
            boxes.append(self.boxes[kept].copy())
        return np.stack(boxes)

    def _merge(self, kept: int, gone: int) -> None:
        pair = [kept, gone]
        share = self.pixels[pair] / self.pixels[pair].sum()
        self.histograms[kept] = share @ self.histograms[pair]
        self.pixels[kept] += self.pixels[gone]
        self.boxes[kept] = _around(self.boxes[kept], self.boxes[gone])
        touching = self.touching[kept] | self.touching[gone]
        touching[pair] = False
        self.touching[gone] = self.touching[:, gone] = False
        self.touching[kept] = self.touching[:, kept] = touching
        self.alike[gone] = self.alike[:, gone] = -np.inf
        self._compare(kept)

    def _compare(self, region: int) -> None:
        """How alike a region is to each that touches it: common histogram, smallness and fill."""
        others = np.flatnonzero(self.touching[region])
        common = np.minimum(self.histograms[others], self.histograms[region]).sum(axis=1)
        pixels = self.pixels[others] + self.pixels[region]
        box = _around(self.boxes[others], self.boxes[region])
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        small = 1 - pixels / self.image
        fill = 1 - (area - pixels) / self.image
        self.alike[region] = self.alike[:, region] = -np.inf
        self.alike[region, others] = self.alike[others, region] = common + small + fill


def _boxes(labels: Integers) -> Integers:
    """Boxes [R, 4] of the regions, right and lower edges behind the last pixel."""
    from scipy.ndimage import find_objects

    slices = find_objects(labels + 1)
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], dtype=np.int64)


def _around(one: Integers, other: Integers) -> Integers:
    """The boxes [..., 4] around two boxes each."""
    corners = np.minimum(one[..., :2], other[..., :2]), np.maximum(one[..., 2:], other[..., 2:])
    return np.concatenate(corners, axis=-1)


def _touching(labels: Integers) -> NDArray[np.bool_]:
    """Which regions [R, R] have pixels side by side or above each other."""
    count = int(labels.max()) + 1
    touching = np.zeros((count, count), dtype=bool)
    touching[labels[:, :-1], labels[:, 1:]] = True
    touching[labels[:-1], labels[1:]] = True
    touching |= touching.T
    np.fill_diagonal(touching, False)
    return touching
