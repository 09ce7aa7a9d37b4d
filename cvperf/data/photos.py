"""Real photos from pinned packages, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvperf.data.packages import fetch

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTOS: dict[str, tuple[str, str]] = {
    "astronaut": ("scikit-image", "skimage/data/astronaut.png"),
    "brick": ("scikit-image", "skimage/data/brick.png"),
    "camera": ("scikit-image", "skimage/data/camera.png"),
    "cat": ("scikit-image", "skimage/data/chelsea.png"),
    "coffee": ("scikit-image", "skimage/data/coffee.png"),
    "coins": ("scikit-image", "skimage/data/coins.png"),
    "galaxies": ("scikit-image", "skimage/data/hubble_deep_field.jpg"),
    "grass": ("scikit-image", "skimage/data/grass.png"),
    "gravel": ("scikit-image", "skimage/data/gravel.png"),
    "motorcycle": ("scikit-image", "skimage/data/motorcycle_left.png"),
    "rocket": ("scikit-image", "skimage/data/rocket.jpg"),
    "tissue": ("scikit-image", "skimage/data/ihc.png"),
    "pagoda": ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    "dahlia": ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
}
"""Name -> (package, path inside it)."""


def photo(name: str) -> Image:
    """The photo ``name`` of :data:`PHOTOS` as an RGB image.

    Raises:
        KeyError: no photo has this name.
        PackageError: its package could not be fetched.
    """
    from PIL import Image

    if name not in PHOTOS:
        raise KeyError(f"no photo {name!r}; known: {', '.join(sorted(PHOTOS))}")
    package, path = PHOTOS[name]
    return Image.open(fetch(package) / path).convert("RGB")  # which closes the file too


def face_sheet(side: int = 10, tile: int = 64) -> Image:
    """Composed: ``side * side`` (at most 100) faces of LFW on a grid, ``side * tile`` pixels wide.

    The faces are 25 x 25 pixels, enlarged to ``tile``. The file's second hundred are not faces.
    """
    from PIL import Image

    if not 1 <= side <= 10:
        raise ValueError(f"side must be 1 to 10 (there are 100 faces), got {side}")
    path: Path = fetch("scikit-image") / "skimage/data/lfw_subset.npy"
    faces = (np.load(path, allow_pickle=False)[: side * side] * 255).round().astype(np.uint8)
    sheet = Image.new("RGB", (side * tile, side * tile))
    for index, face in enumerate(faces):
        enlarged = Image.fromarray(face).resize((tile, tile), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (index % side * tile, index // side * tile))
    return sheet
