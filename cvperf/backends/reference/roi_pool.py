"""RoI pooling in float64: the largest pixel of each bin."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.registry import FLOATING, register


@register("roi_pool", "reference", "cpu", FLOATING, automatic=False)
def roi_pool(
    image: Tensor, boxes: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """Bin by bin; boxes are rounded in the type that they are given in, as torchvision does."""
    count, channels, (height, width) = len(boxes), image.shape[1], image.shape[2:]
    boxes = boxes.to(torch.float64 if image.dtype == torch.float64 else torch.float32)
    output = torch.zeros(count, channels, pooled_height, pooled_width, dtype=torch.float64)
    argmax = torch.full(output.shape, -1, dtype=torch.int32)
    for k, (index, x1, y1, x2, y2) in enumerate(boxes):
        if any(bool(corner.isnan()) for corner in (x1, y1, x2, y2)):
            continue
        rows = _pixel_ranges(y1 * spatial_scale, y2 * spatial_scale, pooled_height, height)
        columns = _pixel_ranges(x1 * spatial_scale, x2 * spatial_scale, pooled_width, width)
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                patch = image[int(index), :, top:bottom, left:right].double()
                if patch.numel() == 0:
                    continue
                lowest = torch.finfo(torch.float32).min
                patch = torch.where(patch > lowest, patch, lowest).flatten(1)
                best, where = patch.max(1)
                where = (patch == best[:, None]).double().argmax(1)  # the first
                pixel = (top + where // (right - left)) * width + left + where % (right - left)
                output[k, :, i, j] = best
                argmax[k, :, i, j] = torch.where(best > lowest, pixel, -1).to(torch.int32)
    return output.to(image.dtype), argmax


def _pixel_ranges(first: Tensor, last: Tensor, bins: int, pixels: int) -> list[tuple[int, int]]:
    def whole(x: Tensor) -> int:  # halves away from zero, within int32
        return int(x.sign() * (x.double().abs().clamp(max=2**31 - 1) + 0.5).floor())

    start, end = whole(first), whole(last)
    size = first.new_tensor(max(end - start + 1, 1)) / bins
    edges = [size * float(i) for i in range(bins + 1)]
    return [
        (
            min(max(int(edges[i].floor()) + start, 0), pixels),
            min(max(int(edges[i + 1].ceil()) + start, 0), pixels),
        )
        for i in range(bins)
    ]


@register("roi_pool_backward", "reference", "cpu", FLOATING, automatic=False)
def roi_pool_backward(
    grad: Tensor,
    boxes: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    batch_size: int,
    channels: int,
    height: int,
    width: int,
) -> Tensor:
    """Each bin's gradient goes to the pixel that was its maximum."""
    image_grad = torch.zeros((batch_size, channels, height * width), dtype=torch.float64)
    rows = zip(boxes, grad.double().flatten(2), argmax.flatten(2), strict=True)
    for box, box_grad, where in rows:
        valid = where >= 0
        image_grad[int(box[0])].scatter_add_(1, where.long().clamp(min=0), box_grad * valid)
    return image_grad.view(batch_size, channels, height, width).to(grad.dtype)
