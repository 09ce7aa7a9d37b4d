"""Calls of RoI pooling and its gradient that launch every kernel of them that ships."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cvperf.backends.cuda import roi_model as model
from cvperf.backends.cuda import roi_pool as backend
from cvperf.backends.cuda.roi_align import slices_of
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.shipped import Call, channels_last, meta

SIZE = (1, 256, 200, 336)
CHANNELS, PIXELS = SIZE[1], SIZE[2] * SIZE[3]
BOXES = 1000


def calls() -> Iterator[Call]:
    for dtype in (torch.float16, torch.float32):
        yield from _both(f"channels last, {str(dtype).removeprefix('torch.')}", dtype)


def _both(name: str, dtype: torch.dtype) -> Iterator[Call]:
    boxes, size = meta(BOXES, 5), dtype.itemsize
    image, grad = channels_last(*SIZE, dtype=dtype), channels_last(BOXES, CHANNELS, 7, 7)
    argmax = channels_last(BOXES, CHANNELS, 7, 7, dtype=torch.int32)
    grad = grad.to(dtype)

    def share(gpu: Architecture) -> float:
        slices = slices_of(gpu, BOXES, CHANNELS, 128 // size)
        return model.pool_share(gpu, BOXES, CHANNELS, slices, PIXELS, size)

    yield Call("roi_pool", name, lambda: backend.roi_pool(image, boxes, 0.25, 7, 7), share)
    yield Call(
        "roi_pool_backward",
        name,
        lambda: backend.roi_pool_backward(grad, boxes, argmax, 0.25, 7, 7, *SIZE),
        lambda gpu: model.pool_backward_share(gpu, BOXES, CHANNELS, PIXELS, size),
    )
