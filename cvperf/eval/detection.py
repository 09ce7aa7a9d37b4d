"""Metrics of detection, boxes and masks, as COCO has them; over the images of every process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cvperf.errors import ArgumentError, check_number, describe

Objects = Mapping[str, Tensor]
"""Of one image: ``boxes`` float [n, 4] XYXY in pixels, ``labels`` int64 [n] from 0; what a model
found has ``scores`` float [n] besides. ``masks``, if there are any, are [n, H, W] or
[n, 1, H, W] of 0 and 1 or of probabilities."""

_RANKS = (1, 10, 100)
_AREAS = ("small", "medium", "large")
_SURE = 0.5
"""The score from which a detection counts where numbers of objects are compared."""


@dataclass(frozen=True)
class _Image:
    """Annotations of COCO's format, but for the numbers of image and annotation."""

    truth: list[dict[str, Any]]
    found: list[dict[str, Any]]
    size: tuple[int, int] | None
    """(height, width) where both have masks."""
    pixels: Mapping[int, np.ndarray] = field(default_factory=dict)
    """Of each class there: how many pixels truth and sure answers have together, and in all."""


class Detection:
    """Average precision and recall by the rules of COCO; faster-coco-eval does the work.

    Where torch.distributed runs, ``compute`` takes the images of all its processes, each of which
    must call it and keeps its own until then.

    Args:
        classes: their names.

    Raises:
        ArgumentError: two classes have one name, or there is none.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes or len(set(classes)) < len(classes):
            raise ArgumentError(f"classes must be names that differ, got {list(classes)}")
        self.classes = tuple(classes)
        self._images: list[_Image] = []

    def reset(self) -> None:
        """Forget every image."""
        self._images = []

    def update(self, found: Sequence[Objects], truth: Sequence[Objects]) -> None:
        """Add images.

        Args:
            found: of each image what the model found, with ``scores``.
            truth: of each image what is there.

        Raises:
            ArgumentError: the two are not as many, shapes do not fit, a label is no class, or a box
                of the truth has no area.
        """
        if len(found) != len(truth):
            raise ArgumentError(f"found has {len(found)} images, truth {len(truth)}")
        for one, other in zip(found, truth, strict=True):
            self._check("found", one)
            self._check("truth", other)
            self._images.append(_image(one, other))

    def compute(self) -> dict[str, float]:
        """Every figure so far.

        ``ap`` is the mean over classes and IoUs from 0.5 to 0.95, ``ap50`` and ``ap75`` are at one
        IoU, ``ap_small`` (up to 32x32 pixels), ``ap_medium`` (up to 96x96) and ``ap_large`` of
        objects by area: of the mask, or the box where there is none. ``recall@k`` is the mean
        recall with the ``k`` surest answers of each image and class. ``ap/cat`` and ``ap50/cat``
        are those of class "cat". The same with ``mask_`` before it is by the IoU of masks, where
        model and truth have any. ``count_error`` is by how many objects an image's number of
        answers with a score of 0.5 or more is off, summed, as a share of all objects.
        ``mask_dice`` is Dice's coefficient of the pixels that such answers and the objects cover,
        in all images, mean over classes.

        What no object is of has no figure.

        Raises:
            ArgumentError: there was no object.
            ImportError: faster-coco-eval is not installed.
        """
        images = self._of_all()
        objects = sum(len(image.truth) for image in images)
        if not objects:
            raise ArgumentError(f"there is no object in {len(images)} images to compute metrics of")
        off = sum(abs(len(image.truth) - _sure(image.found)) for image in images)
        figures = self._figures(images, "bbox", "")
        if all(image.size for image in images):
            figures |= {**self._figures(images, "segm", "mask_"), "mask_dice": _dice(images)}
        return {**figures, "count_error": off / objects}

    def _of_all(self) -> list[_Image]:
        """The images of all processes.

        By turns, as they were shared out: equal scores then count in the same order whatever the
        number of processes.
        """
        kept = [self._images]
        if torch.distributed.is_initialized():
            kept *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(kept, self._images)
        return [image for turn in zip_longest(*kept) for image in turn if image is not None]

    def _figures(
        self, images: Sequence[_Image], kind: Literal["bbox", "segm"], prefix: str
    ) -> dict[str, float]:
        precision, recall = _evaluated(images, len(self.classes), kind)
        values = {
            "ap": precision[..., 0, -1],
            "ap50": precision[0, ..., 0, -1],
            "ap75": precision[5, ..., 0, -1],
        }
        values |= {f"ap_{name}": precision[..., i, -1] for i, name in enumerate(_AREAS, 1)}
        values |= {f"recall@{k}": recall[..., 0, i] for i, k in enumerate(_RANKS)}
        for number, name in enumerate(self.classes):
            values[f"ap/{name}"] = precision[:, :, number, 0, -1]
            values[f"ap50/{name}"] = precision[0, :, number, 0, -1]
        # COCO's sign for what no object is of is -1.
        return {
            prefix + name: float(found[found > -1].mean())
            for name, found in values.items()
            if (found > -1).any()
        }

    def _check(self, name: str, objects: Objects) -> None:
        needed = ("boxes", "labels", "scores") if name == "found" else ("boxes", "labels")
        if missing := [key for key in needed if key not in objects]:
            raise ArgumentError(f"{name} has no {', '.join(missing)}, only {', '.join(objects)}")
        boxes, length = objects["boxes"], len(objects["boxes"])
        if boxes.shape != (length, 4) or any(len(objects[key]) != length for key in needed):
            shapes = ", ".join(f"{key} {describe(objects[key])}" for key in needed)
            raise ArgumentError(f"{name} must have boxes [n, 4] and as many of the rest: {shapes}")
        labels = objects["labels"]
        if labels.is_floating_point() or ((labels < 0) | (labels >= len(self.classes))).any():
            raise ArgumentError(
                f"labels of {name} must be integers from 0 to {len(self.classes) - 1}, got "
                f"{describe(labels)} with {labels.unique().tolist()}"
            )
        if not all(objects[key].isfinite().all() for key in needed):
            raise ArgumentError(f"{name} has NaN or infinity: the model diverged")
        if name == "truth" and not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ArgumentError(
                "truth has boxes without area, as a crop leaves them: put sanitize_boxes after it"
            )


def match(found: Objects, truth: Objects, iou: float = 0.5) -> Tensor:
    """Which object each detection is of: int64 [n] of numbers in ``truth``, -1 for none.

    The surest detection comes first; each takes the free object of its class that it overlaps
    most. So one that is left is a false positive, and an object that is not taken was missed.

    Args:
        found: of an image, with ``scores``.
        truth: of the same image.
        iou: the least overlap of boxes.
    """
    from torchvision.ops import box_iou

    check_number("iou", iou, "0 to 1")
    overlap = box_iou(found["boxes"].float(), truth["boxes"].float())
    overlap[found["labels"][:, None] != truth["labels"]] = -1
    taken = torch.full((len(found["boxes"]),), -1, dtype=torch.int64)
    for number in found["scores"].argsort(descending=True, stable=True).tolist():
        if overlap.shape[1] and overlap[number].max() >= iou:
            best = int(overlap[number].argmax())
            taken[number] = best
            overlap[:, best] = -1
    return taken


def _image(found: Objects, truth: Objects) -> _Image:
    masks = truth.get("masks")
    areas = None if masks is None else _planes(masks).sum((1, 2)).tolist()
    there, answers = list(_annotations(truth, areas)), list(_annotations(found, None))
    if masks is None or "masks" not in found:
        return _Image(there, answers, None)
    planes = _planes(masks), _planes(found["masks"])
    if planes[0].shape[1:] != planes[1].shape[1:]:
        raise ArgumentError(
            f"masks of found and truth must be of one size, got {describe(found['masks'])} and "
            f"{describe(masks)}"
        )
    for objects, plane in zip((there, answers), planes, strict=True):
        for one, packed in zip(objects, _packed(plane), strict=True):
            one["segmentation"] = packed
    height, width = planes[0].shape[1:]
    sure = found["scores"].cpu() >= _SURE
    pixels = {
        label: _shared(
            planes[0][truth["labels"].cpu() == label].any(0),
            planes[1][(found["labels"].cpu() == label) & sure].any(0),
        )
        for label in {*truth["labels"].tolist(), *found["labels"].tolist()}
    }
    return _Image(there, answers, (int(height), int(width)), pixels)


def _shared(one: Tensor, other: Tensor) -> np.ndarray:
    """int64 [2]: pixels that both planes have, and the sum of what each has."""
    return np.array([int((one & other).sum()), int(one.sum() + other.sum())])


def _dice(images: Sequence[_Image]) -> float:
    """The mean of the coefficients of the classes that have objects."""
    there = sorted({one["category_id"] for image in images for one in image.truth})
    nothing = np.zeros(2, np.int64)
    sums = [np.sum([one.pixels.get(label, nothing) for one in images], 0) for label in there]
    return float(np.mean([2 * both / max(every, 1) for both, every in sums]))


def _annotations(objects: Objects, areas: Sequence[float] | None) -> Iterator[dict[str, Any]]:
    """One a box, XYWH; the area is the box's unless it is given."""
    boxes = objects["boxes"].detach().double().cpu()
    sides = boxes[:, 2:] - boxes[:, :2]
    xywh, own = torch.cat([boxes[:, :2], sides], 1).tolist(), sides.prod(1).tolist()
    labels = objects["labels"].tolist()
    scores = objects["scores"].tolist() if "scores" in objects else [None] * len(labels)
    for box, label, area, score in zip(xywh, labels, areas or own, scores, strict=True):
        one = {"bbox": box, "category_id": label, "area": area, "iscrowd": 0}
        yield one if score is None else {**one, "score": score}


def _planes(masks: Tensor) -> Tensor:
    """bool [n, H, W] on the CPU, of 0 and 1 or of probabilities."""
    planes = masks.detach().reshape(len(masks), *masks.shape[-2:])
    return (planes >= 0.5).cpu() if planes.is_floating_point() else planes.bool().cpu()


def _packed(planes: Tensor) -> list[dict[str, Any]]:
    """Run lengths of each mask, as COCO has them: column by column."""
    if not len(planes):
        return []
    mask = _library("core.mask")
    columns = np.asfortranarray(planes.permute(1, 2, 0).numpy().astype(np.uint8))
    packed: list[dict[str, Any]] = mask.encode(columns)
    return packed


def _evaluated(
    images: Sequence[_Image], classes: int, kind: Literal["bbox", "segm"]
) -> tuple[np.ndarray, np.ndarray]:
    """Precision [IoUs, recalls, classes, areas, ranks] and recall [IoUs, classes, areas, ranks]."""
    library = _library()
    known = [
        {"id": number}
        | (dict(zip(("height", "width"), image.size, strict=True)) if image.size else {})
        for number, image in enumerate(images, 1)
    ]
    truth = library.COCO(
        {
            "images": known,
            "categories": [{"id": number, "name": str(number)} for number in range(classes)],
            "annotations": _numbered([image.truth for image in images]),
        }
    )
    found = _numbered([image.found for image in images])
    if kind == "segm":
        # The library takes the mask's area where there is no box.
        found = [{k: v for k, v in one.items() if k not in ("bbox", "area")} for one in found]
    evaluator = library.COCOeval_faster(truth, truth.loadRes(found), iouType=kind)
    evaluator.params.maxDets = list(_RANKS)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])


def _numbered(images: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The annotations of all images, copied, with numbers from 1: some code takes 0 for none."""
    numbers = count(1)
    return [
        {**one, "image_id": number, "id": next(numbers)}
        for number, annotations in enumerate(images, 1)
        for one in annotations
    ]


def _sure(found: Sequence[dict[str, Any]]) -> int:
    return sum(one["score"] >= _SURE for one in found)


def _library(module: str = "") -> Any:
    from importlib import import_module

    try:
        return import_module(f"faster_coco_eval.{module}".rstrip("."))
    except ImportError as error:
        raise ImportError(
            "metrics of detection need faster-coco-eval: pip install 'cvperf[train]'"
        ) from error
