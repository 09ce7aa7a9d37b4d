"""A detector by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cvperf.errors import ArgumentError, check_count, did_you_mean
from cvperf.models.detection.fast_rcnn import fast_rcnn
from cvperf.models.detection.faster_rcnn import faster_rcnn
from cvperf.models.detection.mask_rcnn import mask_rcnn
from cvperf.models.detection.panet import panet
from cvperf.models.detection.rcnn import rcnn
from cvperf.models.detection.retinanet import RetinaNet
from cvperf.models.detection.ssd import SSD
from cvperf.models.detection.yolact import YOLACT
from cvperf.models.detection.yolo import YOLO

_DETECTORS: Mapping[str, Callable[..., nn.Module]] = {
    "rcnn": rcnn,
    "fast-rcnn": fast_rcnn,
    "faster-rcnn": faster_rcnn,
    "mask-rcnn": mask_rcnn,
    "panet": panet,
    "ssd": SSD,
    "retinanet": RetinaNet,
    "yolo": YOLO,
    "yolact": YOLACT,
}


def known_detectors() -> list[str]:
    """Names that :func:`create_detector` takes."""
    return list(_DETECTORS)


def create_detector(name: str, num_classes: int, **options: Any) -> nn.Module:
    """A detector with random weights.

    Its call is torchvision's: ``model(images, targets)`` gives a dict of losses in training, and
    ``model(images)`` in evaluation a list of dicts with ``boxes`` [n, 4], ``labels`` [n] (from 1
    on), ``scores`` [n] and, where the model has them, ``masks`` [n, 1, H, W].

    Args:
        name: such as ``"faster-rcnn"``; :func:`known_detectors` lists them.
        num_classes: with the background, which is class 0.
        options: of the network's own constructor; for all of them ``backbone``, which is
            ``"small"`` for pictures of 100 to 300 pixels, or a network of torchvision such as
            ``"resnet50"`` or ``"resnext50_32x4d"``.

    Raises:
        ArgumentError: the name is unknown, there is no class beside the background, or the network
            takes no such option.
    """
    if name not in _DETECTORS:
        raise ArgumentError(
            f"unknown detector {name!r}{did_you_mean(name, _DETECTORS)}. "
            f"Known: {', '.join(_DETECTORS)}"
        )
    check_count("num_classes", num_classes)
    if num_classes < 2:
        raise ArgumentError(
            f"num_classes counts the background, so it must be 2 or more; got {num_classes}"
        )
    try:
        return _DETECTORS[name](num_classes=num_classes, **options)
    except TypeError as error:  # an option that the constructor does not know
        raise ArgumentError(f"detector {name!r}: {error}") from error
