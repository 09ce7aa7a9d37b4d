"""What roi_align and roi_pool share: boxes in one of two forms, output sizes, and their checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.registry import FLOATING, layout_of
from cvperf.errors import ArgumentError, check_tensor, describe, mixed

_FORMS = "Tensor[K, 5] (image index, x1, y1, x2, y2) or a list with one Tensor[L, 4] for each image"


def check_map(input: Tensor) -> None:
    check_tensor("input", input, "input[N, C, H, W]", ndim=4, dtypes=FLOATING)


def as_rois(input: Tensor, boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Boxes as [K, 5], whichever form they came in.

    Lists of half-precision boxes become float32, in which every image index is exact.
    """
    if isinstance(boxes, Tensor):
        check_tensor("boxes", boxes, _FORMS, ndim=2, dtypes=FLOATING)
        if boxes.shape[1] != 5:
            raise ArgumentError(f"boxes must be {_FORMS}, got {describe(boxes)}")
        rois = boxes
    else:
        if not isinstance(boxes, (list, tuple)):
            hint = mixed(boxes, "input")
            raise TypeError(f"boxes must be {_FORMS}, got {describe(boxes)}{hint}")
        if len(boxes) > input.shape[0]:
            raise ArgumentError(
                f"boxes is a list of {len(boxes)} tensors, but input is {describe(input)}: "
                f"expected one tensor for each of its {input.shape[0]} images"
            )
        rois = _concatenate(boxes, input)
    if rois.device != input.device:
        raise ArgumentError(
            f"boxes and input must be on the same device: boxes is on {rois.device}, "
            f"input is {describe(input)}. Move one with .to()"
        )
    return rois


def _concatenate(boxes: Sequence[Tensor], input: Tensor) -> Tensor:
    if not boxes:
        return torch.zeros((0, 5), dtype=torch.float32, device=input.device)
    parts = []
    for i, each in enumerate(boxes):
        check_tensor(f"boxes[{i}]", each, "Tensor[L, 4] (x1, y1, x2, y2)", ndim=2, dtypes=FLOATING)
        if each.shape[1] != 4:
            raise ArgumentError(
                f"boxes[{i}] must be Tensor[L, 4] (x1, y1, x2, y2), got {describe(each)}"
            )
        if each.dtype in (torch.float16, torch.bfloat16):
            each = each.to(torch.float32)
        parts.append(torch.cat([torch.full_like(each[:, :1], i), each], dim=1))
    if any(part.dtype != parts[0].dtype or part.device != parts[0].device for part in parts):
        raise ArgumentError(
            "boxes must share one dtype and device, got "
            + ", ".join(describe(each) for each in boxes)
        )
    return torch.cat(parts)


def as_output_size(output_size: int | Sequence[int]) -> tuple[int, int]:
    sizes = (output_size, output_size) if isinstance(output_size, int) else output_size
    if (
        not isinstance(sizes, (tuple, list, torch.Size))
        or len(sizes) != 2
        or not all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    ):
        raise TypeError(f"output_size must be an int or two ints, got {describe(output_size)}")
    if min(sizes) < 1:
        raise ArgumentError(f"output_size must be at least 1 bin each way, got {output_size}")
    return sizes[0], sizes[1]


def check_scale(spatial_scale: float) -> None:
    if isinstance(spatial_scale, bool) or not isinstance(spatial_scale, (int, float)):
        raise TypeError(f"spatial_scale must be a number, got {describe(spatial_scale)}")
    if not abs(spatial_scale) < float("inf"):
        raise ArgumentError(
            f"spatial_scale must be finite, got {spatial_scale}: it is the width of the map "
            "divided by the width of the image that the boxes refer to"
        )


def check_sampling_ratio(sampling_ratio: int) -> None:
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int):
        raise TypeError(f"sampling_ratio must be an int, got {describe(sampling_ratio)}")
    if sampling_ratio > MAX_SAMPLING_RATIO:
        raise ArgumentError(
            f"sampling_ratio must be at most {MAX_SAMPLING_RATIO} (its square counts the samples "
            f"of a bin in 32 bits), got {sampling_ratio}; -1 adapts to the size of each box"
        )


MAX_SAMPLING_RATIO = 46340


def fake_output(input: Tensor, rois: Tensor, height: int, width: int) -> Tensor:
    """The output without data: one row a box, in the memory format of the input."""
    return torch.empty(
        (rois.shape[0], input.shape[1], height, width),
        dtype=input.dtype,
        device=input.device,
        memory_format=memory_format(layout_of(input) == "channels_last"),
    )
