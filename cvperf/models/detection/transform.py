"""What stands before and after every detector: images made one batch, and answers made theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf import ops
from cvperf.errors import ArgumentError, check_tensor, describe

Target = dict[str, Tensor]
Size = tuple[int, int]

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Resize(nn.Module):
    """Normalises images, resizes them with their targets, and pads them to one batch.

    Number for number torchvision's ``GeneralizedRCNNTransform``; it has no parameters.

    Args:
        min_size: pixels of an image's shorter side after resizing; None leaves images as they are.
        max_size: that its longer side may have at most, which may make the shorter one smaller.
        image_mean: subtracted from each channel.
        image_std: each channel is divided by it afterwards.
        size_divisible: the batch's height and width are multiples of it.
        fixed_size: (height, width) that every image is stretched to, in place of the first two.
    """

    def __init__(
        self,
        min_size: int | None = 800,
        max_size: int = 1333,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        size_divisible: int = 32,
        fixed_size: Size | None = None,
    ) -> None:
        super().__init__()
        self.min_size = min_size
        self.max_size = max_size
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.size_divisible = size_divisible
        self.fixed_size = fixed_size

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None
    ) -> tuple[Tensor, list[Size], list[Target] | None]:
        """Make one batch.

        Args:
            images: [3, H, W] each, of a float dtype, values 0 to 1; or one [N, 3, H, W].
            targets: for each image a dict with ``boxes`` [n, 4] in its pixels, and ``masks``
                [n, H, W] where there are any; what else is in it passes through.

        Returns:
            ``(batch, sizes, targets)``: channels-last [N, 3, H, W]; each image's (height, width) in
            it; new dicts with boxes and masks in its pixels, or None.

        Raises:
            ArgumentError: an image is not such a tensor.
        """
        _check_images(images)
        sizes = [self._size_after(size_of(image)) for image in images]
        resized = self._resize(images, sizes)
        batch = _pad(resized, sizes, self.size_divisible)
        if targets is None:
            return batch, sizes, None
        pairs = zip(targets, images, sizes, strict=True)
        return batch, sizes, [_resize_target(each, size_of(im), to) for each, im, to in pairs]

    def restore(
        self, detections: Sequence[Target], sizes: Sequence[Size], originals: Sequence[Size]
    ) -> list[Target]:
        """Detections in the pixels of the images as they were given.

        Args:
            detections: for each image a dict with ``boxes`` [n, 4] in the batch's pixels, and
                ``masks`` [n, 1, M, M] within their boxes where the model has them.
            sizes: what :meth:`forward` said.
            originals: (height, width) of each image as given.

        Returns:
            new dicts; ``masks`` become [n, 1, height, width], 0 outside their boxes.
        """
        restored = []
        for found, size, original in zip(detections, sizes, originals, strict=True):
            boxes = resize_boxes(found["boxes"], size, original)
            changed = {**found, "boxes": boxes}
            if "masks" in found:
                changed["masks"] = ops.paste_masks(found["masks"], boxes, original, threshold=None)
            restored.append(changed)
        return restored

    def _size_after(self, size: Size) -> Size:
        """What an image of that size is resized to."""
        if self.fixed_size is not None:
            return self.fixed_size
        if self.min_size is None:
            return size
        scale = min(self.min_size / min(size), self.max_size / max(size))
        return math.floor(size[0] * scale), math.floor(size[1] * scale)

    def _resize(self, images: Sequence[Tensor] | Tensor, sizes: list[Size]) -> list[Tensor]:
        mean = images[0].new_tensor(self.image_mean)[:, None, None]
        std = images[0].new_tensor(self.image_std)[:, None, None]
        resized = []
        for image, size in zip(images, sizes, strict=True):
            normal = (image - mean) / std
            if size_of(image) != size:
                normal = F.interpolate(normal[None], size, mode="bilinear")[0]
            resized.append(normal)
        return resized


def size_of(image: Tensor) -> Size:
    """(height, width) of an image [..., H, W]."""
    return image.shape[-2], image.shape[-1]


def resize_boxes(boxes: Tensor, size: Size, to: Size) -> Tensor:
    """Boxes [n, 4] of an image of one (height, width), in its pixels after it got another."""
    if size == to:
        return boxes
    # The quotient in float32, and then the product, is how torchvision rounds.
    across, down = (boxes.new_tensor(to[axis]) / size[axis] for axis in (1, 0))
    return boxes * torch.stack([across, down, across, down])


def check_targets(
    targets: Sequence[Target] | None, images: Sequence[Tensor] | Tensor, masks: bool = False
) -> Sequence[Target]:
    """The targets of a training step, if they can be learnt from.

    Args:
        targets: what the model was called with.
        images: likewise.
        masks: whether the model learns masks.

    Raises:
        ArgumentError: there is not one dict an image with float ``boxes`` [n, 4], int64 ``labels``
            [n] and, for ``masks``, ``masks`` [n, H, W]; or a box has no area.
        TypeError: one of them is not a tensor.
    """
    if targets is None or len(targets) != len(images):
        raise ArgumentError(
            f"in training, targets must be one dict for each of {len(images)} images, got "
            f"{'None' if targets is None else len(targets)}. For detections call model.eval() first"
        )
    for index, (target, image) in enumerate(zip(targets, images, strict=True)):
        _check_target(f"targets[{index}]", target, size_of(image), masks)
    return targets


def _check_target(name: str, target: Target, size: Size, masks: bool) -> None:
    needed = ("boxes", "labels", "masks") if masks else ("boxes", "labels")
    missing = [key for key in needed if key not in target]
    if missing:
        raise ArgumentError(f"{name} has no {' and no '.join(missing)}; it has {sorted(target)}")
    boxes, labels = target["boxes"], target["labels"]
    check_tensor(f"{name}['boxes']", boxes, "boxes[n, 4]", ndim=2, dtypes=_FLOATING)
    check_tensor(f"{name}['labels']", labels, "labels[n]", ndim=1, dtypes=(torch.int64,))
    if boxes.shape[1] != 4 or len(labels) != len(boxes):
        raise ArgumentError(
            f"{name} must have boxes[n, 4] and labels[n], got {describe(boxes)} and "
            f"{describe(labels)}. An image without objects has boxes[0, 4]"
        )
    if masks and target["masks"].shape != (len(boxes), *size):
        raise ArgumentError(
            f"{name}['masks'] must be masks[n, H, W], here {[len(boxes), *size]}, got "
            f"{describe(target['masks'])}"
        )
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    if flat.any():
        raise ArgumentError(
            f"{name}['boxes'] must be corners (x1, y1, x2, y2) with x1 < x2 and y1 < y2, got "
            f"{boxes[flat][0].tolist()}"
        )


_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _check_images(images: Sequence[Tensor] | Tensor) -> None:
    if not len(images):
        raise ArgumentError("images is empty: expected a list of image[3, H, W], or [N, 3, H, W]")
    for index, image in enumerate(images):
        name = f"images[{index}]"
        check_tensor(name, image, "image[3, H, W], values 0 to 1", ndim=3, dtypes=_FLOATING)
        if image.shape[0] != 3:
            raise ArgumentError(f"{name} must be image[3, H, W], got {describe(image)}")


def _pad(images: list[Tensor], sizes: list[Size], divisible: int) -> Tensor:
    height, width = (
        math.ceil(max(size[axis] for size in sizes) / divisible) * divisible for axis in (0, 1)
    )
    batch = images[0].new_zeros(len(images), 3, height, width)
    batch = batch.to(memory_format=torch.channels_last)
    for row, image, (rows, columns) in zip(batch, images, sizes, strict=True):
        row[:, :rows, :columns] = image
    return batch


def _resize_target(target: Target, size: Size, to: Size) -> Target:
    changed = {**target, "boxes": resize_boxes(target["boxes"], size, to)}
    if "masks" in target and size != to:
        masks = target["masks"].to(torch.uint8)[:, None]
        changed["masks"] = F.interpolate(masks, to)[:, 0] if len(masks) else masks.new_empty(0, *to)
    return changed
