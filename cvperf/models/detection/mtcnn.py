"""MTCNN: faces by three small networks, each for what the one before has let through.

P-Net runs over a pyramid of the picture and proposes squares; R-Net and O-Net judge and move the
squares cut from the picture, 24 and 48 pixels wide, and O-Net adds five landmarks.

Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks", IEEE Signal Processing Letters 2016. Parameters are named as in facenet-pytorch, whose
weights these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf import ops
from cvperf.data.packages import fetch
from cvperf.errors import ArgumentError, check_tensor, describe

_CELL, _STRIDE = 12, 2
"""Pixels that P-Net sees of a level, and between two of its answers."""
_BATCH = 512
"""Crops at once: a picture of a crowd proposes thousands."""


class PNet(nn.Module):
    """A level of the pyramid [N, 3, H, W] to chances [N, h, w] and shifts [N, 4, h, w]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _halved(self.prelu1(self.conv1(x)), 2)
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class RNet(nn.Module):
    """Crops [N, 3, 24, 24] to chances [N] and shifts [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1 = nn.Linear(128, 2)
        self.dense5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _halved(self.prelu1(self.conv1(x)), 3)
        x = _halved(self.prelu2(self.conv2(x)), 3)
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_columns_first(x)))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """Crops [N, 3, 48, 48] to chances [N], shifts [N, 4] and landmarks [N, 10]: five x, five y."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)
        self.dense6_2 = nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _halved(self.prelu1(self.conv1(x)), 3)
        x = _halved(self.prelu2(self.conv2(x)), 3)
        x = _halved(self.prelu3(self.conv3(x)), 2)
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_columns_first(x)))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


class MTCNN(nn.Module):
    """Finds faces; for inference only.

    Args:
        min_face: pixels of the smallest face that is looked for, 12 or more: half of it takes four
            times as long.
        thresholds: chances from which a proposal passes P-Net, R-Net and O-Net.
        factor: of a level of the pyramid's size to that of the level before.

    Raises:
        ArgumentError: ``min_face`` is below 12, or ``factor`` not between 0 and 1.
    """

    def __init__(
        self,
        min_face: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
    ) -> None:
        super().__init__()
        if min_face < _CELL or not 0 < factor < 1:
            raise ArgumentError(
                f"min_face must be {_CELL} pixels or more, and factor between 0 and 1, got "
                f"min_face {describe(min_face)}, factor {describe(factor)}"
            )
        self.pnet, self.rnet, self.onet = PNet(), RNet(), ONet()
        self.min_face, self.thresholds, self.factor = min_face, thresholds, factor

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor] | Tensor) -> list[dict[str, Tensor]]:
        """Faces of each image, float32 [3, H, W] in 0..1.

        Returns:
            For each: ``boxes`` float32 [n, 4], XYXY pixels (a face that the picture's edge cuts has
            a box beyond it), ``labels`` int64 [n] of 1, ``scores`` float32 [n], descending, and
            ``landmarks`` float32 [n, 5, 2]: x, y of the eyes, the nose and the mouth's corners.

        Raises:
            ArgumentError: an image is not such a tensor.
        """
        for index, image in enumerate(images):
            name, expected = f"images[{index}]", "image[3, H, W] in 0..1"
            check_tensor(name, image, expected, ndim=3, dtypes=(torch.float32,))
            if image.shape[0] != 3:
                raise ArgumentError(f"{name} must be {expected}, got {describe(image)}")
        return [self._faces(image) for image in images]

    def _faces(self, image: Tensor) -> dict[str, Tensor]:
        pixels = (image * 255 - 127.5) / 128  # as all three networks have been trained
        first, second, third = self.thresholds
        boxes = _square(self._proposals(pixels, first))

        boxes, crops = _cut(pixels, boxes, 24)
        scores, shifts = _in_batches(self.rnet, crops, 2)
        keep = (scores > second).nonzero().flatten()
        keep = keep[ops.nms(boxes[keep], scores[keep], 0.7)]
        boxes = _square(_moved(boxes[keep], shifts[keep], 1))

        boxes, crops = _cut(pixels, boxes, 48)
        scores, shifts, points = _in_batches(self.onet, crops, 3)
        keep = (scores > third).nonzero().flatten()
        found, scores, landmarks = boxes[keep], scores[keep], _placed(points[keep], boxes[keep])
        found = _moved(found, shifts[keep], 1)
        keep = _nms_by_smaller(found, scores, 0.7)
        return {
            "boxes": found[keep],
            "labels": torch.ones_like(keep),
            "scores": scores[keep],
            "landmarks": landmarks[keep],
        }

    def _proposals(self, pixels: Tensor, threshold: float) -> Tensor:
        """P-Net's boxes [n, 4] of an image [3, H, W], moved by its shifts."""
        height, width = pixels.shape[1:]
        boxes, scores, shifts = [pixels.new_zeros(0, 4)], [pixels.new_zeros(0)], []
        shifts.append(pixels.new_zeros(0, 4))
        scale = _CELL / self.min_face
        while min(height, width) * scale >= _CELL:
            size = (int(height * scale + 1), int(width * scale + 1))
            chances, maps = self.pnet(F.interpolate(pixels[None], size, mode="area"))
            rows, columns = (chances[0] >= threshold).nonzero(as_tuple=True)
            corner = torch.stack((columns, rows), 1).float() * _STRIDE
            edges = (((corner + 1) / scale).floor(), ((corner + _CELL) / scale).floor())
            level, level_scores = torch.cat(edges, 1), chances[0, rows, columns]
            keep = ops.nms(level, level_scores, 0.5)
            boxes.append(level[keep])
            scores.append(level_scores[keep])
            shifts.append(maps[0, :, rows, columns].T[keep])
            scale *= self.factor
        keep = ops.nms(torch.cat(boxes), torch.cat(scores), 0.7)
        return _moved(torch.cat(boxes)[keep], torch.cat(shifts)[keep], 0)


def mtcnn(min_face: int = 20) -> MTCNN:
    """MTCNN with facenet-pytorch's weights, in evaluation mode.

    Raises:
        PackageError: the package could not be fetched.
    """
    model = MTCNN(min_face)
    folder = fetch("facenet-pytorch") / "facenet_pytorch/data"
    for name in ("pnet", "rnet", "onet"):
        weights = torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True)
        model.get_submodule(name).load_state_dict(weights)
    return model.eval()


def _halved(x: Tensor, kernel: int) -> Tensor:
    return F.max_pool2d(x, kernel, 2, ceil_mode=True)


def _columns_first(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, W * H * C]: the order in which the weights were trained (Caffe's)."""
    return x.permute(0, 3, 2, 1).flatten(1)


def _in_batches(network: nn.Module, crops: Tensor, answers: int) -> list[Tensor]:
    """What a network answers for crops [N, 3, S, S], of which there may be none."""
    parts = [network(part) for part in crops.split(_BATCH)]
    return [torch.cat([part[index] for part in parts]) for index in range(answers)]


def _moved(boxes: Tensor, shifts: Tensor, pixel: int) -> Tensor:
    """Boxes [n, 4] moved by shares of their sides; ``pixel`` is 1 where a side counts its end."""
    sides = (boxes[:, 2:] - boxes[:, :2] + pixel).repeat(1, 2)
    return boxes + shifts * sides


def _square(boxes: Tensor) -> Tensor:
    """Boxes [n, 4] grown to squares about their centres."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.amax(1, keepdim=True)
    corner = boxes[:, :2] + sides * 0.5 - longest * 0.5
    return torch.cat((corner, corner + longest), 1)


def _cut(pixels: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Those of the boxes that have pixels, and their crops [n, 3, side, side] of the image."""
    height, width = pixels.shape[1:]
    whole = boxes.trunc().to(torch.int64)
    # Counted from 1, ends included, as the package does: the pixel before the corner is in.
    starts = whole[:, :2].clamp(min=1) - 1
    ends = torch.minimum(whole[:, 2:], whole.new_tensor([width, height]))
    sound = (ends > starts).all(1)
    crops = [
        F.interpolate(pixels[None, :, top:bottom, left:right], (side, side), mode="area")
        for (left, top), (right, bottom) in zip(
            starts[sound].tolist(), ends[sound].tolist(), strict=True
        )
    ]
    return boxes[sound], torch.cat([pixels.new_zeros(0, 3, side, side), *crops])


def _placed(points: Tensor, boxes: Tensor) -> Tensor:
    """Landmarks [n, 5, 2] in pixels of O-Net's shares [n, 10] of boxes [n, 4]."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    shares = points.view(-1, 2, 5).transpose(1, 2)
    return shares * sides[:, None] + boxes[:, None, :2] - 1


def _nms_by_smaller(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """int64 [k]: greedy suppression by the intersection over the *smaller* box.

    A face within a face goes as well. Few boxes come this far, so a loop will do; cvperf.ops.nms
    compares with the union.
    """
    left = scores.argsort(descending=True)
    kept: list[Tensor] = []
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        start = torch.maximum(boxes[best, :2], boxes[left, :2])
        end = torch.minimum(boxes[best, 2:], boxes[left, 2:])
        shared = (end - start + 1).clamp(min=0).prod(1)
        left = left[shared / torch.minimum(areas[best], areas[left]) <= threshold]
    return torch.stack(kept) if kept else left
