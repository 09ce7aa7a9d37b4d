"""Models of torchvision and timm by name, with random weights and an input of their size."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cvperf.bench.problems.model import settle_batch_norm

SEED = 0
_SIDE = 224
_DETECTION_SIDE = 800
_TIMM = "timm/"


@dataclass(frozen=True)
class Example:
    """A model in eval mode and a callable that runs it once, without autograd."""

    model: nn.Module
    run: Callable[[], Any]
    notes: tuple[str, ...]


class UnknownModelError(LookupError):
    """No model has that name; the message has the near ones."""


def load(name: str, device: str, batch: int, image_size: int | None) -> Example:
    """The model called ``name``, torchvision's before timm's; ``timm/NAME`` is timm's.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        batch: images at once.
        image_size: pixels on a side; None for the model's own.

    Raises:
        UnknownModelError: neither library has it.
        ImportError: the library is not installed.
    """
    if name.startswith(_TIMM):
        return _timm(name.removeprefix(_TIMM), device, batch, image_size)
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError(
            f"the model {name!r} needs torchvision: pip install 'cvperf[models]'"
        ) from error
    if name in models.list_models():
        return _torchvision(name, device, batch, image_size)
    timm: Any = _timm_if_installed()
    if timm is not None and timm.is_model(name):
        return _timm(name, device, batch, image_size)
    known = [*models.list_models(), *(timm.list_models() if timm is not None else [])]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    message = f"torchvision and timm have no model called {name!r}"
    if timm is None:
        message = f"torchvision has no model called {name!r}, and timm is not installed: " + (
            "pip install 'cvperf[bench]'"
        )
    raise UnknownModelError(message + (f"; near: {', '.join(near)}" if near else ""))


def _torchvision(name: str, device: str, batch: int, image_size: int | None) -> Example:
    from torchvision import models

    detects = name in models.list_models(module=models.detection)
    two_images = name in models.list_models(module=models.optical_flow)
    video = name in models.list_models(module=models.video)
    options: dict[str, Any] = {"weights": None}
    if detects or name in models.list_models(module=models.segmentation):
        options["weights_backbone"] = None
    model = _seeded(lambda: models.get_model(name, **options)).eval().to(device)
    side = image_size or (_DETECTION_SIDE if detects else _usual_side(name))
    if detects:
        return _detector(model, [_picture(side, i).to(device) for i in range(batch)])
    size = (batch, 3, 16, side, side) if video else (batch, 3, side, side)
    inputs = [_noise(*size).to(device) for _ in range(2 if two_images else 1)]
    return _example(model, inputs)


def _timm(name: str, device: str, batch: int, image_size: int | None) -> Example:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name!r} needs timm: pip install 'cvperf[bench]'") from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
        raise UnknownModelError(f"timm has no model called {name!r}; near: {', '.join(near)}")
    model: Any = _seeded(lambda: timm.create_model(name, pretrained=False)).eval().to(device)
    channels, height, width = model.pretrained_cfg["input_size"]
    size = (channels, image_size or height, image_size or width)
    return _example(model, [_noise(batch, *size).to(device)])


def _example(model: nn.Module, inputs: list[Tensor]) -> Example:
    @torch.inference_mode()
    def run() -> Any:
        return model(*inputs)

    sizes = " and ".join(str(list(tensor.shape)) for tensor in inputs)
    return Example(model, run, ("random weights", f"input {sizes} float32"))


def _timm_if_installed() -> Any:
    try:
        import timm
    except ImportError:
        return None
    return timm


def _detector(model: Any, images: list[Tensor]) -> Example:
    """A detector that finds as many boxes as it returns at most, although its weights are random.

    Random classes are all about equally likely, so the usual threshold keeps nothing, and the heads
    behind it would have no work. The threshold becomes the lowest score that is returned without.
    """
    side = images[0].shape[-1]
    if not getattr(model.transform, "fixed_size", None):
        model.transform.min_size, model.transform.max_size = (side,), side
    settle_batch_norm(model.backbone, model.transform(images)[0].tensors)

    @torch.inference_mode()
    def run() -> Any:
        return model(images)

    head = getattr(model, "roi_heads", model)
    head.score_thresh = 0.0
    scores = torch.cat([answer["scores"] for answer in run()])
    if len(scores):
        head.score_thresh = 0.999 * float(scores.min())
    found = sum(len(answer["boxes"]) for answer in run())
    size = f"{len(images)} of {list(images[0].shape)} float32"
    return Example(model, run, ("random weights", f"images {size}", f"{found} boxes found"))


def _usual_side(name: str) -> int:
    """Pixels on a side that the model's published weights were evaluated at."""
    from torchvision import models

    try:
        recipe = next(iter(models.get_model_weights(name))).transforms()
    except StopIteration:
        return _SIDE
    size = getattr(recipe, "crop_size", None) or getattr(recipe, "resize_size", None)
    return int(size[0]) if size else _SIDE


def _picture(side: int, seed: int) -> Tensor:
    """[3, side, side] in 0..1 with shapes of all sizes: noise at five scales."""
    random = torch.Generator().manual_seed(SEED + seed)
    layers = [
        nn.functional.interpolate(
            torch.rand(1, 3, cells, cells, generator=random), (side, side), mode="bilinear"
        )
        for cells in (4, 8, 16, 32, 64)
    ]
    return torch.stack(layers).mean(0)[0]


def _noise(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(SEED))


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make()
