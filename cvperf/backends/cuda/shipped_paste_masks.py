"""Calls of mask pasting that launch every kernel of it that ships."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from cvperf.backends.cuda import paste_masks as backend
from cvperf.backends.gpu.model import streamed_share
from cvperf.backends.gpu.shipped import Call, meta


def calls() -> Iterator[Call]:
    yield _call("800x1333", 800, 1333, 0.5)
    yield _call("480x640, values", 480, 640, None)


def _call(name: str, height: int, width: int, threshold: float | None) -> Call:
    masks, boxes = meta(100, 28, 28), meta(100, 4)
    written = 100 * height * width * (4 if threshold is None else 1)
    return Call(
        "paste_masks",
        name,
        lambda: backend.paste_masks(masks, boxes, height, width, threshold, padding=1),
        functools.partial(streamed_share, memory_bytes=written),
    )
