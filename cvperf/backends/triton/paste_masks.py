"""Pasting of masks in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import paste_masks as kernels

# Eight pixels a thread: with more, registers leave room for too few blocks to keep stores coming.
CONFIG = Config.of(8, 1, BH=16, BW=128)


def paste_masks(
    masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float | None, padding: int
) -> Tensor:
    masks, boxes = masks.contiguous(), boxes.contiguous()
    count, side, _ = masks.shape
    dtype = masks.dtype if threshold is None else torch.bool
    output = torch.empty((count, height, width), dtype=dtype, device=masks.device)
    tiles = -(-height // CONFIG["BH"]) * -(-width // CONFIG["BW"])
    launch(
        kernels.paste_masks_kernel,
        (count * tiles,),
        masks,
        boxes,
        output if threshold is None else output.view(torch.int8),
        0.0 if threshold is None else threshold,
        (side + 2 * padding) / side,
        side,
        padding,
        height,
        width,
        HARD=threshold is not None,
        enable_fp_fusion=False,  # the box is cut to pixels as torch does it, rounding by rounding
        config=CONFIG,
    )
    return output
