"""Calls of RoI Align and its gradient that launch every kernel of them that ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cvperf.backends.cuda import roi_align as forward
from cvperf.backends.cuda import roi_align_backward as backward
from cvperf.backends.cuda import roi_model as model
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.roi_sampling import turning_seconds
from cvperf.backends.gpu.shipped import Call, channels_last, meta

SIZE = (1, 256, 200, 336)
CHANNELS, PIXELS = SIZE[1], SIZE[2] * SIZE[3]
BOXES = 1000


def calls() -> Iterator[Call]:
    half, brain = torch.float16, torch.bfloat16
    yield _align("channels last, float16", channels_last(*SIZE, dtype=half))
    yield _align("channels last, bfloat16", channels_last(*SIZE, dtype=brain))
    yield _align("channels last, float32", channels_last(*SIZE))
    yield _align("NCHW, bfloat16, map turned", meta(*SIZE, dtype=brain))
    yield _align("NCHW, float32, map turned", meta(*SIZE))
    yield _align("NCHW, float32, few boxes", meta(*SIZE), count=20)
    # Samples are about a pixel apart: a bin of 2 x 2 pixels reads 3 x 3 or 4 x 4.
    adaptive = channels_last(*SIZE, dtype=brain)
    yield _align("adaptive, bfloat16", adaptive, count=100, bins=14, ratio=-1, pixels=12)
    yield _align("three channels, float32", channels_last(1, 3, *SIZE[2:]))
    for dtype in (half, brain, torch.float32):
        name = str(dtype).removeprefix("torch.")
        grad = channels_last(BOXES, CHANNELS, 7, 7, dtype=dtype)
        yield _gradient(f"channels last, {name}", grad)
    yield _gradient("NCHW, float32", meta(BOXES, CHANNELS, 7, 7))
    yield from _pyramid("channels last", channels_last, half)
    yield from _pyramid("NCHW", meta, brain)


def _align(
    name: str, image: Tensor, count: int = BOXES, bins: int = 7, ratio: int = 2, pixels: int = 16
) -> Call:
    boxes, size, channels = meta(count, 5), image.element_size(), image.shape[1]
    turned = image.is_contiguous() and count == BOXES
    planes = image.is_contiguous() and not turned

    def share(gpu: Architecture) -> float:
        before = turning_seconds(gpu, image.nbytes) if turned else 0.0
        slices = forward.slices_of(gpu, count, channels, 1 if planes else 128 // size)
        values = (count, bins * bins, channels, slices, PIXELS, size)
        return model.forward_share(gpu, *values, planes=planes, pixels=pixels, before=before)

    def run() -> Tensor:
        return forward.roi_align(image, boxes, 0.25, bins, bins, ratio, True)

    return Call("roi_align", name, run, share)


def _gradient(name: str, grad: Tensor) -> Call:
    boxes, size = meta(BOXES, 5), grad.element_size()

    def share(gpu: Architecture) -> float:
        before = turning_seconds(gpu, grad.nbytes) if grad.is_contiguous() else 0.0
        slices = backward.slices_of(CHANNELS, 16 // size)
        return model.backward_share(gpu, BOXES, CHANNELS, slices, PIXELS, size, before)

    def run() -> Tensor:
        return backward.roi_align_backward(grad, boxes, 0.25, 7, 7, *SIZE, 2, True)

    return Call("roi_align_backward", name, run, share)


def _pyramid(layout: str, make: Callable[..., Tensor], dtype: torch.dtype) -> Iterator[Call]:
    boxes = meta(BOXES, 5)
    scales = [2.0**-level for level in range(2, 7)]
    heights, widths = ([-(-side // 2**level) for level in range(5)] for side in SIZE[2:])
    sides = list(zip(heights, widths, strict=True))
    maps = [make(1, CHANNELS, *each, dtype=dtype) for each in sides]
    grad = make(BOXES, CHANNELS, 7, 7, dtype=dtype)
    canonical = (2, False, 224.0, 4)
    pixels, size = sum(height * width for height, width in sides), dtype.itemsize
    vector, name = 16 // size, f"five levels, {layout}"

    def before(gpu: Architecture, tensors: Sequence[Tensor]) -> float:
        if make is not meta:
            return 0.0
        return turning_seconds(gpu, sum(each.nbytes for each in tensors), len(tensors))

    def share(gpu: Architecture) -> float:
        slices = forward.slices_of(gpu, BOXES, CHANNELS, 8 * vector)
        values = (BOXES, 49, CHANNELS, slices, pixels, size)
        return model.forward_share(gpu, *values, before=before(gpu, maps))

    def backward_share(gpu: Architecture) -> float:
        values = (BOXES, CHANNELS, backward.slices_of(CHANNELS, vector), pixels, size)
        return model.backward_share(gpu, *values, before(gpu, [grad]))

    def run() -> Tensor:
        return forward.multiscale_roi_align(maps, boxes, scales, 7, 7, *canonical)

    def run_backward() -> list[Tensor]:
        sizes = (1, CHANNELS, heights, widths)
        return backward.multiscale_roi_align_backward(grad, boxes, scales, 7, 7, *sizes, *canonical)

    yield Call("multiscale_roi_align", name, run, share)
    yield Call("multiscale_roi_align_backward", name, run_backward, backward_share)
