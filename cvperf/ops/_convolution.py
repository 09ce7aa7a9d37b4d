"""The geometry of a convolution: sizes, padding by name, checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.errors import ArgumentError, check_tensor, describe

Pair = tuple[int, int]


def as_pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    """One int or two as (vertical, horizontal), each at least ``least``."""
    pair = value
    if isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
        pair = (value, value)
    if isinstance(pair, (tuple, list)) and len(pair) == 1:
        pair = (pair[0], pair[0])
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(
            isinstance(each, (int, torch.SymInt)) and not isinstance(each, bool) for each in pair
        )
    ):
        raise TypeError(
            f"{name} must be an int or two ints (vertical, horizontal), got {describe(value)}"
        )
    if any(each < least for each in pair):
        raise ArgumentError(f"{name} must be at least {least} each way, got {value}")
    return pair[0], pair[1]


def output_shape(
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int, int, int]:
    """[N, O, OH, OW] of the output."""
    height, width = (
        (image.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1)
        // stride[i]
        + 1
        for i in (0, 1)
    )
    return image.shape[0], weight.shape[0], height, width


def same_padding(
    image: Tensor, weight: Tensor, padding: str, stride: Pair, dilation: Pair
) -> tuple[Tensor, Pair]:
    """Padding by name as numbers; the image comes back longer by one where the total is odd."""
    if padding == "valid":
        return image, (0, 0)
    if padding != "same":
        raise ArgumentError(f"padding must be numbers, 'same' or 'valid', got {padding!r}")
    if stride != (1, 1):
        raise ArgumentError(f"padding='same' needs stride 1, got stride {stride}")
    totals = [dilation[i] * (weight.shape[2 + i] - 1) for i in (0, 1)]
    if totals[0] % 2 or totals[1] % 2:
        image = torch.nn.functional.pad(image, (0, totals[1] % 2, 0, totals[0] % 2))
    return image, (totals[0] // 2, totals[1] // 2)


def check_groups(weight: Tensor, groups: object) -> None:
    """Refuse a weight that does not split into the groups."""
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"groups must be an int, got {describe(groups)}")
    if min(weight.shape) < 1:
        raise ArgumentError(f"weight must have no empty dimension, got {describe(weight)}")
    if groups < 1 or weight.shape[0] % groups:
        raise ArgumentError(
            f"groups must be at least 1 and divide the filters: groups is {groups}, "
            f"weight is {describe(weight)}"
        )


def check_fit(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> None:
    """Refuse sizes that make no convolution."""
    check_groups(weight, groups)
    if image.shape[1] != weight.shape[1] * groups:
        raise ArgumentError(
            f"input must have {weight.shape[1] * groups} channels (weight.shape[1] * groups): "
            f"input is {describe(image)}, weight is {describe(weight)}, groups is {groups}"
        )
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise ArgumentError(
            f"bias must have one number a filter: bias is {describe(bias)}, "
            f"weight is {describe(weight)}"
        )
    for i, side in enumerate(("height", "width")):
        reach = dilation[i] * (weight.shape[2 + i] - 1) + 1
        if image.shape[2 + i] + 2 * padding[i] < reach:
            raise ArgumentError(
                f"the kernel reaches over {reach} pixels of {side}, more than the input with its "
                f"padding has: input is {describe(image)}, padding is {padding}, weight is "
                f"{describe(weight)}, dilation is {dilation}. Use more padding or a larger input"
            )


def check_residual(residual: object, image: Tensor, shape: tuple[int, int, int, int]) -> None:
    """Refuse a residual that is not like the output."""
    check_tensor(
        "residual", residual, "residual, shaped as the output", ndim=4, like=("input", image)
    )
    assert isinstance(residual, Tensor)
    if tuple(residual.shape) != shape:
        raise ArgumentError(
            f"residual must have the output's shape {list(shape)}, got {describe(residual)}"
        )
