"""Pasting of masks in CUDA C++."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.errors import ArgumentError

THREADS, VECTOR_BYTES = 256, 16
TYPES = {torch.float16: "__half", torch.bfloat16: "__nv_bfloat16", torch.float32: "float"}


def paste_masks(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float | None, padding: int
) -> Tensor:
    exact = boxes.dtype if boxes.dtype == torch.float64 else torch.float32
    masks, boxes = masks.contiguous(), boxes.to(exact).contiguous()
    count, side, _ = masks.shape
    dtype = masks.dtype if threshold is None else torch.bool
    output = torch.empty((count, height, width), dtype=dtype, device=masks.device)
    vector = VECTOR_BYTES // output.element_size()
    # An image begins at any place in its first 16 bytes.
    chunks = math.ceil((height * width + vector - 1) / (THREADS * vector))
    if height * width >= 2**31 or count * chunks >= 2**31:
        raise ArgumentError(
            f"{count} images of {height} x {width} pixels are too many: expected fewer than 2**31 "
            "pixels each, and fewer masks a call"
        )
    if output.numel() == 0:
        return output
    out = TYPES[masks.dtype] if threshold is None else "unsigned char"
    box = "double" if exact == torch.float64 else "float"
    launch(
        # Not fused: the box is cut to pixels as torch does it, rounding by rounding.
        Kernel("paste_masks.cu", f"paste_masks<{TYPES[masks.dtype]}, {box}, {out}>", fused=False),
        (count * chunks,),
        THREADS,
        *(masks, boxes, output, 0.0 if threshold is None else float(threshold)),
        *(side, padding, height, width, chunks),
    )
    return output
