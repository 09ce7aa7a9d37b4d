"""What the RoI kernels share: the structs they take by value, and maps turned to channels last."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.roi_sampling import Sampling, alignment
from cvperf.errors import ArgumentError

MOST_LEVELS = 8
"""Of a pyramid: ``kMostLevels`` of kernels/cuda/roi_sampling.cuh."""
TYPES = {torch.float16: "__half", torch.bfloat16: "__nv_bfloat16", torch.float32: "float"}
Canonical = tuple[float, int]


def levels_in_kernel(boxes: Tensor, canonical: Canonical) -> Canonical | None:
    """``canonical`` for ``sampling_of``: None if the kernels choose the levels.

    They do so in float32; float64 boxes come with theirs, since a level is chosen in their dtype.
    """
    return canonical if boxes.dtype == torch.float64 else None


def packed_sampling(sampling: Sampling, canonical: Canonical) -> bytes:
    """``struct Sampling`` of kernels/cuda/roi_sampling.cuh.

    Raises:
        ArgumentError: more than ``MOST_LEVELS`` levels.
    """
    levels = len(sampling.heights)
    if levels > MOST_LEVELS:
        raise ArgumentError(
            f"features has {levels} levels: the CUDA kernels take at most {MOST_LEVELS}. Pool the "
            "others in a second call, or use cvperf.backends.registry.prefer('triton')"
        )
    first = int(-math.log2(sampling.scale)) if levels > 1 else 0
    blank = (0,) * (MOST_LEVELS - levels)
    return struct.pack(
        "<d2f7i8i8i20x",
        sampling.scale,
        *canonical,
        *(first, levels, sampling.images, sampling.ratio),
        *(sampling.aligned, *sampling.bins, *sampling.heights, *blank, *sampling.widths, *blank),
    )


def packed_maps(maps: Sequence[Tensor]) -> bytes:
    """``struct Maps``: where they begin. Whoever launches must keep them alive until then."""
    blank = (0,) * (MOST_LEVELS - len(maps))
    return struct.pack("<8Q", *(each.data_ptr() for each in maps), *blank)


def vector_of(tensors: Sequence[Tensor], channels: int) -> int:
    """Channels that a thread takes at a time: 16 bytes of them, or one."""
    vector = 16 // tensors[0].element_size()
    return vector if channels % vector == 0 and alignment(tensors) == 16 else 1


def check_offsets(maps: Sequence[Tensor], vector: int) -> None:
    """Raises ArgumentError if an image has more vectors of channels than 32 bits count."""
    most = max(each[0].numel() for each in maps)
    if most // vector >= 2**32:
        raise ArgumentError(
            f"an image of {most} values is too large: with {maps[0].shape[1]} channels of "
            f"{maps[0].dtype} expected fewer than {vector * 2**32}"
        )


def channels_last_of(tensor: Tensor) -> Tensor:
    """A contiguous [N, C, H, W] tensor in channels last."""
    turned = torch.empty_like(tensor, memory_format=torch.channels_last)
    _turn(tensor, turned, tensor.shape[1], tensor[0, 0].numel())
    return turned


def planes_of(tensor: Tensor) -> Tensor:
    """A channels-last [N, C, H, W] tensor in planes."""
    turned = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    _turn(tensor, turned, tensor[0, 0].numel(), tensor.shape[1])
    return turned


def _turn(source: Tensor, target: Tensor, rows: int, columns: int) -> None:
    """Each image from [rows, columns] to [columns, rows]."""
    number = "unsigned short" if source.element_size() == 2 else "unsigned"
    launch(
        Kernel("turn.cu", f"turn<{number}>"),
        (source.shape[0] * math.ceil(columns / 64), math.ceil(rows / 64)),
        256,
        *(source, target, rows, columns),
    )
