"""Data sets, transforms, real photos and weights. Ground floor: of cvperf it imports the errors
and the files only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvperf.data import transforms
    from cvperf.data.augmented import Augmented
    from cvperf.data.images import UnreadableImageError, read_image
    from cvperf.data.imbalance import (
        class_weights,
        imbalanced,
        noisy_labels,
        outliers,
        per_class,
        presence_weights,
        resample,
    )
    from cvperf.data.packages import PackageError, fetch
    from cvperf.data.samples import Batch, Broken, ImageSet, collate
    from cvperf.data.sets import load
    from cvperf.data.sets.base import InMemory, select

__all__ = [
    "Augmented",
    "Batch",
    "Broken",
    "ImageSet",
    "InMemory",
    "PackageError",
    "UnreadableImageError",
    "class_weights",
    "collate",
    "fetch",
    "imbalanced",
    "load",
    "noisy_labels",
    "outliers",
    "per_class",
    "presence_weights",
    "read_image",
    "resample",
    "select",
    "transforms",
]

_HOMES = {
    "augmented": ("Augmented",),
    "images": ("UnreadableImageError", "read_image"),
    "imbalance": (
        *("class_weights", "imbalanced", "noisy_labels", "outliers", "per_class"),
        *("presence_weights", "resample"),
    ),
    "packages": ("PackageError", "fetch"),
    "samples": ("Batch", "Broken", "ImageSet", "collate"),
    "sets": ("load",),
    "sets.base": ("InMemory", "select"),
}


def __getattr__(name: str) -> Any:
    """These are imported by their first use: importing cvperf.data stays fast."""
    if name == "transforms":
        try:
            return import_module("cvperf.data.transforms")
        except ModuleNotFoundError as error:
            raise ImportError("transforms need torchvision: pip install 'cvperf[train]'") from error
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cvperf.data.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
