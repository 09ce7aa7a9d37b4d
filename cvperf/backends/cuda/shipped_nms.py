"""The calls of NMS that stand for those that ship."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from cvperf.backends.gpu.shipped import Call, meta


def calls() -> Iterator[Call]:
    from cvperf.backends.cuda import nms as backend
    from cvperf.backends.cuda import nms_model

    def call(name: str, images: int, count: int, dtype: torch.dtype) -> Call:
        arguments = (meta(images, count, 4, dtype=dtype), meta(images, count, dtype=dtype))
        return Call(
            "nms_padded",
            name,
            lambda: backend.nms_padded(*arguments, 0.5, count),
            functools.partial(nms_model.predicted_share, images=images, count=count),
        )

    # nms launches the same kernels, and then reads how many boxes are left.
    yield call("1 image of 1,000", 1, 1000, torch.float32)
    yield call("8 images of 10,000, half", 8, 10_000, torch.float16)
    yield call("1 image of 10,000, bfloat16", 1, 10_000, torch.bfloat16)
    yield call("1 image of 100,000", 1, 100_000, torch.float32)
    boxes, scores, ids = meta(10_000, 4), meta(10_000), meta(10_000, dtype=torch.int64)
    yield Call(
        "batched_nms",
        "10,000",
        lambda: backend.first(boxes[None], scores[None], ids, 0.5, 10_000),
        functools.partial(nms_model.predicted_share, images=1, count=10_000),
    )

    def softly(method: str, dtype: torch.dtype) -> Call:
        its_boxes, its_scores = meta(1000, 4, dtype=dtype), meta(1000, dtype=dtype)
        return Call(
            "soft_nms",
            method,
            lambda: backend.selected_softly(its_boxes, its_scores, method, 0.3, 0.5, 0.001, None),
            functools.partial(nms_model.predicted_soft_share, count=1000, method=method),
        )

    yield softly("linear", torch.float32)
    yield softly("gaussian", torch.float16)
