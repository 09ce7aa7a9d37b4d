"""A face detector: MobileNetV1 with SSD's heads on six of its maps, for pictures of 512 pixels.

Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, and Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016. The weights
are those of the npm package @vladmandic/face-api, stored in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.boxes import clip_boxes_to_image

from cvperf import ops
from cvperf.data.packages import fetch
from cvperf.models.detection.coder import BoxCoder
from cvperf.models.detection.transform import Resize, Size
from cvperf.models.tfjs import convolution, depthwise, read_tfjs

PACKAGE = "@vladmandic/face-api"

_SIDE = 512
_WIDTHS = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
"""Channels that each of MobileNet's blocks gives."""
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Channels of each pair of layers behind MobileNet: few, then those of a map of half the size."""
_ANCHORS = (3, 6, 6, 6, 6, 6)
"""At each place of the six maps."""
_FACE = 1
"""Of the three classes that the heads answer."""


class FaceSSD(nn.Module):
    """Finds faces; for inference only.

    Args:
        score_threshold: chance below which a box is dropped.
        iou_threshold: overlap above which the lower-scored of two boxes is dropped.
        max_faces: the best so many of an image.
    """

    anchors: Tensor

    def __init__(
        self, score_threshold: float = 0.5, iou_threshold: float = 0.5, max_faces: int = 100
    ) -> None:
        super().__init__()
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_faces = max_faces
        self.resize = Resize(_SIDE, _SIDE, (0.5,) * 3, (0.5,) * 3, size_divisible=_SIDE)
        self.stem = Convolution(3, 32, 3, 2)
        self.blocks = nn.ModuleList(map(Separable, (32, *_WIDTHS), _WIDTHS, _STRIDES))
        seen = (_WIDTHS[10], _WIDTHS[12], *[wide for _, wide in _EXTRAS])
        self.extras = nn.ModuleList(
            nn.Sequential(Convolution(channels, few, 1), Convolution(few, wide, 3, 2))
            for channels, (few, wide) in zip(seen[1:-1], _EXTRAS, strict=True)
        )
        heads = list(zip(seen, _ANCHORS, strict=True))
        self.boxes = nn.ModuleList(nn.Conv2d(wide, 4 * count, 1) for wide, count in heads)
        self.classes = nn.ModuleList(nn.Conv2d(wide, 3 * count, 1) for wide, count in heads)
        self.register_buffer("anchors", torch.zeros(5118, 4))
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """Faces of each image, float32 [3, H, W] in 0..1.

        Returns:
            For each: ``boxes`` float32 [n, 4], XYXY pixels, ``labels`` int64 [n] of 1, and
            ``scores`` float32 [n], descending.
        """
        batch, sizes, _ = self.resize(images)
        for image, (height, width) in zip(batch, sizes, strict=True):
            image[:, height:], image[:, :, width:] = -1, -1  # black, as its pictures were padded
        boxes, scores = self.answers(batch)
        found = [self._best(*each) for each in zip(boxes, scores, sizes, strict=True)]
        originals = [(image.shape[-2], image.shape[-1]) for image in images]
        return self.resize.restore(found, sizes, originals)

    def answers(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Every box [N, 5118, 4] in pixels and its chance [N, 5118] of images [N, 3, 512, 512].

        Args:
            batch: values -1 to 1.
        """
        maps, x = [], self.stem(batch)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (10, 12):
                maps.append(x)
        for layer in self.extras:
            x = layer(x)
            maps.append(x)
        moved = _listed(self.boxes, maps, 4)
        logits = _listed(self.classes, maps, 3)[..., _FACE]
        return self.coder.decode(moved, self.anchors) * _SIDE, logits.sigmoid()

    def _best(self, boxes: Tensor, scores: Tensor, size: Size) -> dict[str, Tensor]:
        candidates = (scores > self.score_threshold).nonzero().flatten()
        boxes, scores = boxes[candidates], scores[candidates]
        keep = ops.nms(boxes, scores, self.iou_threshold)[: self.max_faces]
        return {
            "boxes": clip_boxes_to_image(boxes[keep], size),
            "labels": torch.ones_like(keep),
            "scores": scores[keep],
        }


class Convolution(nn.Module):
    """Convolution, bias and ReLU6; its batch norm is folded in."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.conv(_padded(x, self.conv)))


class Separable(nn.Module):
    """A depthwise 3x3 convolution with batch norm, then a convolution of single pixels."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.pointwise = Convolution(channels, filters, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depthwise(_padded(x, self.depthwise))))
        return self.pointwise(x)


def face_ssd(score_threshold: float = 0.5) -> FaceSSD:
    """The face detector with face-api's weights, in evaluation mode.

    Raises:
        PackageError: the package could not be fetched, which takes npm.
    """
    manifest = fetch(PACKAGE) / "model/ssd_mobilenetv1_model-weights_manifest.json"
    model = FaceSSD(score_threshold)
    model.load_state_dict(state_of(read_tfjs(manifest)))
    return model.eval()


def state_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of :class:`FaceSSD` for weights named and laid out as in face-api's file."""
    state = {"anchors": weights["Output/extra_dim"][0][:, [1, 0, 3, 2]]}  # theirs have y first

    def folded(ours: str, theirs: str) -> None:
        state[f"{ours}.conv.weight"] = convolution(weights[f"{theirs}/weights"])
        state[f"{ours}.conv.bias"] = weights[f"{theirs}/convolution_bn_offset"]

    folded("stem", "MobilenetV1/Conv2d_0_pointwise")
    for index in range(13):
        theirs = f"MobilenetV1/Conv2d_{index + 1}"
        ours, block = f"blocks.{index}", f"{theirs}_depthwise"
        state[f"{ours}.depthwise.weight"] = depthwise(weights[f"{block}/depthwise_weights"])
        for name, norm in _NORM.items():
            state[f"{ours}.norm.{name}"] = weights[f"{block}/BatchNorm/{norm}"]
        state[f"{ours}.norm.num_batches_tracked"] = torch.tensor(0)
        folded(f"{ours}.pointwise", f"{theirs}_pointwise")
    for index in range(8):
        folded(f"extras.{index // 2}.{index % 2}", f"Prediction/Conv2d_{index}_pointwise")
    for index, count in enumerate(_ANCHORS):
        for ours, theirs in (("boxes", "BoxEncoding"), ("classes", "Class")):
            head = f"Prediction/BoxPredictor_{index}/{theirs}Predictor"
            weight, bias = convolution(weights[f"{head}/weights"]), weights[f"{head}/biases"]
            if ours == "boxes":
                order = torch.arange(4 * count).view(count, 4)[:, [1, 0, 3, 2]].flatten()
                weight, bias = weight[order], bias[order]
            state[f"{ours}.{index}.weight"], state[f"{ours}.{index}.bias"] = weight, bias
    return state


_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def _padded(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """TensorFlow's "same": what is over of an even side's padding comes last."""
    if layer.kernel_size == (1, 1):
        return x
    return F.pad(x, (1, 1, 1, 1) if layer.stride == (1, 1) else (0, 1, 0, 1))


def _listed(heads: nn.ModuleList, maps: list[Tensor], answers: int) -> Tensor:
    """[N, anchors of all maps, answers] of each head's answer for its map."""
    listed = [head(x).permute(0, 2, 3, 1) for head, x in zip(heads, maps, strict=True)]
    return torch.cat([x.reshape(len(x), -1, answers) for x in listed], 1)
