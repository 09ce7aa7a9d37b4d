"""Detection sets in COCO's JSON format."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cvperf.data.sets.detection import Annotated, DetectionFiles, from_xywh
from cvperf.data.sets.folder import existing
from cvperf.data.sets.splits import FOLDERS, check_split
from cvperf.errors import ArgumentError


def load(
    split: str,
    root: str | Path,
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    masks: bool = True,
    **options: Any,
) -> DetectionFiles:
    """Boxes, labels and, if the file has them, masks (from polygons and run lengths).

    Looked for, with the split's other names (``val``, ``valid``, ...) too:
    ``annotations/instances_train*.json`` and ``train*/`` (COCO itself);
    ``train/_annotations.coco.json`` with the images beside it; ``train.json`` with images in
    ``train/`` or ``images/`` or beside it.

    Left out: annotations of crowds (they mark regions, not objects) and boxes without area.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        root: the folder.
        annotations: the JSON file of this split, if it lies elsewhere; relative to ``root``.
        images: the folder of this split's images, if it lies elsewhere; relative to ``root``.
        masks: whether to read masks.
        options: ``color`` and ``broken`` of :class:`~cvperf.data.sets.detection.DetectionFiles`.
    """
    check_split(split)
    root = existing(root)
    file = root / annotations if annotations else _annotations(root, split)
    folder = root / images if images else _images(root, split, file)
    content = _content(file)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    objects = _objects(content["annotations"])
    with_masks = masks and any(one.get("segmentation") for one in content["annotations"])
    known = [
        _annotated(file, folder, image, objects[image["id"]], numbers, with_masks)
        for image in content["images"]
    ]
    return DetectionFiles(known, [category["name"] for category in categories], **options)


def _objects(annotations: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Those of each image that are objects to find."""
    objects = defaultdict(list)
    for one in annotations:
        _, _, width, height = one["bbox"]
        if not one.get("iscrowd") and width > 0 and height > 0:
            objects[one["image_id"]].append(one)
    return objects


def _annotated(
    file: Path,
    folder: Path,
    image: dict[str, Any],
    objects: list[dict[str, Any]],
    numbers: dict[int, int],
    with_masks: bool,
) -> Annotated:
    for one in objects:
        if one["category_id"] not in numbers:
            raise ArgumentError(
                f"{file}: annotation {one['id']} has category_id {one['category_id']}, which "
                "categories does not list"
            )
        if with_masks and not one.get("segmentation"):
            raise ArgumentError(
                f"{file}: annotation {one['id']} has no segmentation, but others have. "
                "Pass masks=False to read boxes alone"
            )
    size = (image["height"], image["width"])
    draw = None
    if with_masks:
        mask_library()  # missing, it is missed now, not in the middle of a run
        draw = partial(_draw, [one["segmentation"] for one in objects], size)
    return Annotated(
        path=folder / image["file_name"],
        boxes=from_xywh([one["bbox"] for one in objects]),
        labels=torch.tensor([numbers[one["category_id"]] for one in objects], dtype=torch.int64),
        size=size,
        masks=draw,
    )


def _draw(segmentations: list[Any], size: tuple[int, int]) -> Tensor:
    """uint8 [n, height, width] of polygons, and of run lengths packed or not."""
    library = mask_library()
    masks = torch.zeros(len(segmentations), *size, dtype=torch.uint8)
    for mask, segmentation in zip(masks, segmentations, strict=True):
        packed = segmentation
        if isinstance(segmentation, list):
            packed = library.merge(library.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            packed = library.frPyObjects(segmentation, *size)
        mask.copy_(torch.from_numpy(library.decode(packed)))
    return masks


@cache
def mask_library() -> ModuleType:
    """pycocotools' mask functions, or those of its faster relative."""
    for library in ("pycocotools.mask", "faster_coco_eval.core.mask"):
        try:
            return import_module(library)
        except ImportError:
            continue
    raise ImportError(
        "masks of COCO's format need pycocotools or faster-coco-eval: pip install "
        "'cvperf[train]'; or pass masks=False to read boxes alone"
    )


def _content(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ArgumentError(f"annotations must be a JSON file, got {file}, which is none")
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{file} is no JSON, or cut: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(part in content for part in parts):
        raise ArgumentError(
            f"{file} is not of COCO's format; expected an object with {', '.join(parts)}"
        )
    return content


def _annotations(root: Path, split: str) -> Path:
    patterns = [
        pattern.format(name)
        for name in FOLDERS[split]
        for pattern in (
            *("annotations/instances_{}*.json", "annotations/{}.json"),
            *("{}/_annotations.coco.json", "{}.json"),
        )
    ]
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    if not found:
        raise ArgumentError(
            f"{root} has no annotations of split {split!r}; looked for {', '.join(patterns)}. "
            "Name the file with annotations="
        )
    return found[0]


def _images(root: Path, split: str, file: Path) -> Path:
    """The folder of a split's images: COCO's ``train2017`` beside ``instances_train2017.json``."""
    if file.name == "_annotations.coco.json":
        return file.parent
    names = (file.stem.removeprefix("instances_"), *FOLDERS[split])
    candidates = [root / prefix / name for name in names for prefix in ("", "images")]
    candidates += [root / "images"]
    return next((folder for folder in candidates if folder.is_dir()), root)
