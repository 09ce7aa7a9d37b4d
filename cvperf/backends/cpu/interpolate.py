"""Resizing on the CPU: native calls for channels-last images, by torch's rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cvperf import _C
from cvperf.backends.cpu.dtypes import DTYPES
from cvperf.backends.cpu.images import BYTES, FLOATS, Shape, check_dtype, check_image
from cvperf.errors import ArgumentError

_MODES = dict(_C.Interpolation.__members__)
_SERVED = {"nearest": (*FLOATS, *BYTES), "bilinear": FLOATS}


def interpolate_call(
    image: Sequence[int],
    size: Sequence[int] | None,
    scale_factor: Sequence[float] | None,
    mode: str,
    align_corners: bool,
    dtype: torch.dtype,
) -> tuple[_C.Call, Shape]:
    """The call that resizes an image [N, C, H, W], and its output's size.

    Either of ``size`` and ``scale_factor`` is given, as (vertical, horizontal). Positions follow
    from the scales given, else from the sizes; with torch's ``recompute_scale_factor``, give sizes.

    Raises:
        ArgumentError: mode or dtype is not served, or torch refuses such a call.
    """
    _check(image, mode, align_corners, dtype)
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            f"either size or scale_factor must be given, got size {size} and scale_factor "
            f"{scale_factor}"
        )
    scales = (0.0, 0.0) if scale_factor is None else (scale_factor[0], scale_factor[1])
    height, width = size or (math.floor(image[2 + i] * scales[i]) for i in (0, 1))
    if min(height, width) < 1:
        raise ArgumentError(
            f"the output must not be empty, got [{height}, {width}] from input {list(image)}, "
            f"size {size} and scale_factor {scale_factor}"
        )
    sizes = (*image, height, width)
    call = _C.InterpolateCall(sizes, _MODES[mode], align_corners, *scales, DTYPES[dtype])
    return call, (image[0], image[1], height, width)


def _check(image: Sequence[int], mode: str, align_corners: bool, dtype: torch.dtype) -> None:
    if mode not in _MODES:
        raise ArgumentError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if align_corners and mode == "nearest":
        raise ArgumentError("align_corners is for mode 'bilinear', got mode 'nearest'")
    check_dtype(f"image of mode {mode!r}", dtype, _SERVED[mode])
    check_image(image)
