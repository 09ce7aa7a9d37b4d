"""uint8 images to normalised floating point, in the layout that a network wants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.channels import memory_format
from cvperf.backends.registry import layout_of
from cvperf.errors import ArgumentError, check_number, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._library import define

_LAYOUTS = ("NCHW", "NHWC")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_FORMATS = (torch.preserve_format, torch.contiguous_format, torch.channels_last)


def normalize_image(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    layout: str = "NCHW",
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Tensor:
    """``(image / 255 - mean) / std`` of uint8 images, converted and laid out in the same pass.

    What torchvision's ``to_dtype(scale=True)`` and ``normalize`` do, and the change of layout.

    Args:
        image: uint8 [N, C, H, W] or [C, H, W]; with ``layout="NHWC"`` [N, H, W, C] or [H, W, C], as
            PIL, NumPy and OpenCV have it.
        mean: one number a channel, of values from 0 to 1.
        std: one number a channel, not 0.
        layout: ``"NCHW"`` or ``"NHWC"``: the order of the dimensions of ``image``.
        dtype: float32, bfloat16 or float16.
        memory_format: of the output in memory: ``torch.channels_last``, ``torch.contiguous_format``
            or ``torch.preserve_format`` for that of ``image`` (pixels by pixels stay so).

    Returns:
        ``dtype`` [N, C, H, W] (or [C, H, W]) in that memory format. Computed in float32, rounded
        once. It has no gradient.

    Raises:
        ArgumentError: shapes, dtypes, numbers or names do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: one pass over ``image``.
    """
    if not isinstance(image, Tensor) and is_array(image):
        return call_with_tensors(normalize_image, locals())
    if layout not in _LAYOUTS:
        raise ArgumentError(f"layout must be one of {', '.join(_LAYOUTS)}; got {layout!r}")
    names = ", ".join(layout)
    expected = f"image[{names}] or [{names[3:]}]"
    check_tensor("image", image, expected, ndim=(3, 4), dtypes=(torch.uint8,))
    batched = image.dim() == 4
    images = image if batched else image.unsqueeze(0)
    if layout == "NHWC":
        images = images.permute(0, 3, 1, 2)
    means, stds = _numbers("mean", mean), _numbers("std", std)
    if not len(means) == len(stds) == images.shape[1]:
        other = _LAYOUTS[layout == "NCHW"]
        turned = len(means) == image.shape[-3 if layout == "NHWC" else -1]
        hint = f'. Is it layout="{other}"?' if turned else ""
        raise ArgumentError(
            f"mean and std must have one number a channel of {expected}: they have {len(means)} "
            f"and {len(stds)}, image is {describe(image)}{hint}"
        )
    if 0.0 in stds:
        raise ArgumentError(f"std must not be 0, got {list(stds)}")
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {describe(dtype)}")
    if dtype not in _DTYPES:
        known = ", ".join(str(each).removeprefix("torch.") for each in _DTYPES)
        raise ArgumentError(f"dtype must be one of {known}; got {dtype}")
    if memory_format not in _FORMATS:
        known = ", ".join(map(str, _FORMATS))
        raise ArgumentError(f"memory_format must be one of {known}; got {memory_format}")
    channels_last = memory_format is torch.channels_last
    if memory_format is torch.preserve_format:
        channels_last = layout_of(images) == "channels_last"
    result: Tensor = _normalize_image(images, means, stds, dtype, channels_last)
    return result if batched else result.squeeze(0)


def _numbers(name: str, values: object) -> list[float]:
    if isinstance(values, (str, Tensor)) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a sequence of numbers, got {describe(values)}")
    for i, value in enumerate(values):
        check_number(f"{name}[{i}]", value, "of values from 0 to 1")
    return [float(value) for value in values]


def _fake(
    image: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    format = memory_format(channels_last)
    return torch.empty_like(image, dtype=dtype, memory_format=format)


_normalize_image = define(
    "normalize_image(Tensor image, float[] mean, float[] std, ScalarType dtype, "
    "bool channels_last) -> Tensor",
    _fake,
)
