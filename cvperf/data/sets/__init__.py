"""The data sets that :func:`load` knows, by name."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from cvperf.data.samples import ImageSet
from cvperf.data.sets import (
    coco,
    composed,
    digits,
    digits_on_photos,
    faces,
    fashion_mnist,
    folder,
    hugging_face,
    nuclei,
    rotated,
    table,
    trees,
)
from cvperf.errors import ArgumentError

SETS: dict[str, Callable[..., ImageSet]] = {
    "fashion-mnist": fashion_mnist.load,
    "digits": digits.load,
    "digits-on-photos": digits_on_photos.load,
    "faces": faces.load,
    "composed": composed.load,
    "rotated": rotated.load,
    "trees": trees.load,
    "nuclei": nuclei.load,
    "folder": folder.load,
    "csv": table.load,
    "coco": coco.load,
    "hugging-face": hugging_face.load,
}


def load(name: str, split: str, *, root: str | Path | None = None, **options: Any) -> ImageSet:
    """A data set by name.

    Args:
        name: "fashion-mnist", "digits", "faces", "trees" and "nuclei" come out of packages,
            "digits-on-photos", "composed" and "rotated" are made of these; "folder", "csv", "coco"
            and "hugging-face" are layouts of files of yours.
        split: "train", "validation" or "test"; a set may have fewer.
        root: where the files are.
        options: those of ``load`` in the set's module in ``cvperf.data.sets`` ("csv" is in
            ``table``); ``color`` ("RGB", "L") and ``broken`` ("skip", "raise") for all that read
            image files.

    Raises:
        ArgumentError: no set, split or option has this name, or the files are not laid out so.
    """
    if name not in SETS:
        raise ArgumentError(f"name must be one of {', '.join(SETS)}; got {name!r}")
    parameters = signature(SETS[name]).parameters
    if root is not None:
        options["root"] = root
    elif "root" in parameters and parameters["root"].default is parameters["root"].empty:
        raise ArgumentError(f'load("{name}", ...) needs root=, the path of its files')
    _check_options(name, list(options), list(parameters))
    return SETS[name](split, **options)


def _check_options(name: str, given: list[str], known: list[str]) -> None:
    if "options" in known:
        known = [*known, "color", "broken"]
    taken = [option for option in known if option not in ("split", "options")]
    for option in given:
        if option not in taken:
            raise ArgumentError(
                f'load("{name}", ...) has no option {option!r}; it takes '
                f"{', '.join(taken) or 'none'}"
            )
