"""The list of cases, in the order they run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from cvperf.bench.demo import models, operations
from cvperf.bench.demo.case import Case

_OP = "The op alone, on seeded random numbers."

CASES: tuple[Case, ...] = (
    Case(
        "mobilenet_v2",
        "MobileNetV2 names 8 photos",
        "pretrained on ImageNet, one batch 8x3x224x224, code of torchvision",
        "Each photo with its best ImageNet class. Some things have no class of their own, such as "
        "a dahlia or an astronaut: there the nearest one wins.",
        models.mobilenet_v2,
    ),
    Case(
        "mtcnn",
        "MTCNN finds faces in 4 pictures",
        "pretrained, code of facenet-pytorch, unchanged",
        "A box around each face found. Three are photos, one of them without a face; the sheet is "
        "composed of the 100 faces of the LFW subset, 25x25 pixels enlarged to 64x64. Each picture "
        "is searched at many scales: a pyramid of convolutions with an NMS at every level.",
        models.mtcnn,
    ),
    Case(
        "mask_rcnn",
        "Mask R-CNN at 800x800, random weights",
        "ResNet-50-FPN, random weights (seed 0), batch-norm statistics from the photo, code of "
        "torchvision",
        "The weights are random, so boxes and classes mean nothing. What counts is that the whole "
        "pipeline runs, and gives the same boxes with cvperf as without. A label that would cover "
        "another is left out.",
        models.mask_rcnn,
    ),
    Case("nms", "nms, 10,000 proposals", "200 objects x 50 jittered boxes", _OP, operations.nms),
    Case(
        "nms_uniform",
        "nms, 10,000 uniform boxes",
        "anywhere in 1000x1000 pixels, sides 1 to 61",
        _OP,
        operations.nms_uniform,
    ),
    Case(
        "roi_align",
        "roi_align, 512 boxes",
        "1x256x200x200 channels-last, 7x7, ratio 2",
        _OP,
        operations.roi_align,
    ),
    Case(
        "roi_align_backward",
        "roi_align backward",
        "the same call's input gradient",
        _OP,
        operations.roi_align_backward,
    ),
    Case(
        "conv2d_3x3",
        "conv2d 3x3, 256 channels",
        "1x256x14x14, as in ResNet-50",
        _OP,
        partial(operations.conv2d, (1, 256, 14, 14), 256, 3),
    ),
    Case(
        "conv2d_1x1",
        "conv2d 1x1, 384 to 64 channels",
        "1x384x14x14, as in MobileNetV2",
        _OP,
        partial(operations.conv2d, (1, 384, 14, 14), 64, 1),
    ),
    Case(
        "conv2d_bfloat16",
        "conv2d 3x3 bfloat16",
        "1x64x56x56 channels-last, 64 to 64 channels",
        _OP,
        partial(
            operations.conv2d,
            (1, 64, 56, 56),
            64,
            3,
            dtype=torch.bfloat16,
            layout=torch.channels_last,
        ),
    ),
    Case(
        "conv2d_depthwise",
        "conv2d 3x3 depthwise",
        "8x96x112x112 channels-last",
        _OP,
        partial(operations.conv2d, (8, 96, 112, 112), 96, 3, 96, layout=torch.channels_last),
    ),
    Case(
        "int8_gemm",
        "int8_gemm 512x512x512",
        "int8 by int8 to int32, against torch._int_mm",
        _OP,
        operations.int8_gemm,
    ),
)


def select(only: Sequence[str] | None = None) -> tuple[Case, ...]:
    """The cases named in ``only``, in the list's order; all of them for ``None``.

    Raises:
        ValueError: a name is not that of a case.
    """
    if only is None:
        return CASES
    known = [case.name for case in CASES]
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"no case {', '.join(unknown)}; known: {', '.join(known)}")
    return tuple(case for case in CASES if case.name in only)
