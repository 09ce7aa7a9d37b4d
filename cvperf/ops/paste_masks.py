"""Masks of detected objects, resized into their boxes within the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.registry import FLOATING
from cvperf.errors import ArgumentError, check_count, check_number, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define


def paste_masks(
    masks: Tensor,
    boxes: Tensor,
    image_size: Sequence[int],
    threshold: float | None = 0.5,
    padding: int = 1,
) -> Tensor:
    """Paste each mask into an image of zeros at its box, and say where it is above a threshold.

    What ``torchvision.models.detection.roi_heads.paste_masks_in_image`` does, with the comparison
    that follows it in the same pass. A mask gets ``padding`` zeros on each side, and its box, grown
    by as much about its centre, is cut to whole pixels (towards zero); the mask is resized to them
    (bilinear, ``align_corners=False``), and what lies outside the image is left out.

    Computed in float32 (float64 for float64 masks) in torchvision's order. Where the resized mask
    has more than 128 rows and columns together, the values are torchvision's bit for bit on a
    processor with fused multiply-add; for smaller ones torch sums in another order, and values
    differ by a rounding. Half precision is rounded once, at the end.

    Args:
        masks: [K, M, M] or [K, 1, M, M], usually probabilities of a 28 x 28 grid; float16,
            bfloat16, float32 or float64.
        boxes: [K, 4] corners ``(x1, y1, x2, y2)`` in pixels of the image, on the device of
            ``masks``; any of these dtypes (half precision is computed in float32). A box whose
            coordinates are NaN or beyond 2**30, or that lies wholly outside, is pasted nowhere.
        image_size: (height, width) in pixels.
        threshold: a pixel is set if its value is above it; None for the values themselves.
        padding: zeros put around a mask, 0 or more; torchvision's is 1.

    Returns:
        bool, or the dtype of ``masks`` without a threshold: [K, H, W] or [K, 1, H, W]. It has no
        gradient.

    Raises:
        ArgumentError: shapes, dtypes or devices do not fit, a number is negative, or the threshold
            is NaN.
        TypeError: an argument is of the wrong type.

    Complexity: K * H * W pixels, each written once; no intermediate image.

    Source: He et al., "Mask R-CNN", ICCV 2017, as torchvision implements it.
    """
    if not isinstance(masks, Tensor) and is_array(masks):
        return call_with_tensors(paste_masks, locals())
    check_tensor("masks", masks, "masks[K, M, M] or [K, 1, M, M]", ndim=(3, 4), dtypes=FLOATING)
    side = masks.shape[-1]
    if masks.shape[-2] != side or side == 0 or (masks.dim() == 4 and masks.shape[1] != 1):
        raise ArgumentError(
            f"masks must be masks[K, M, M] or [K, 1, M, M] with M of 1 or more, got "
            f"{describe(masks)}. Pick each object's class first"
        )
    check_tensor("boxes", boxes, "boxes[K, 4]", ndim=2, dtypes=FLOATING)
    if boxes.shape[0] != masks.shape[0] or boxes.shape[1] != 4 or boxes.device != masks.device:
        raise ArgumentError(
            f"boxes must be boxes[K, 4] (x1, y1, x2, y2), one a mask, on the device of masks: "
            f"boxes is {describe(boxes)}, masks is {describe(masks)}"
        )
    if isinstance(image_size, str) or not isinstance(image_size, Sequence):
        raise TypeError(f"image_size must be (height, width), got {describe(image_size)}")
    if len(image_size) != 2:
        raise ArgumentError(f"image_size must be (height, width), got {describe(image_size)}")
    height, width = image_size
    check_count("image_size[0]", height)
    check_count("image_size[1]", width)
    check_count("padding", padding)
    if threshold is not None:
        check_number("threshold", threshold, "usually 0 to 1, or None for the values")
        threshold = float(threshold)
    planes = masks.detach() if masks.dim() == 3 else masks.detach().squeeze(1)
    pasted: Tensor = _paste_masks(planes, boxes.detach(), height, width, threshold, padding)
    return pasted if masks.dim() == 3 else pasted.unsqueeze(1)


def _fake(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float | None, padding: int
) -> Tensor:
    dtype = masks.dtype if threshold is None else torch.bool
    return masks.new_empty((masks.shape[0], height, width), dtype=dtype)


_paste_masks = define(
    "paste_masks(Tensor masks, Tensor boxes, SymInt height, SymInt width, float? threshold, "
    "SymInt padding) -> Tensor",
    _fake,
)
