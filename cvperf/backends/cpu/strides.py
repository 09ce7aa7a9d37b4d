"""Strides of tensors that are planned before there is memory: orders, gaps, fewer dimensions.

An order is the dimensions as memory has them, the slowest first: ``(0, 2, 3, 1)`` is channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvperf.errors import ArgumentError

Ints = tuple[int, ...]


def dense_strides(shape: Ints, order: Ints) -> Ints:
    """The strides of a tensor without gaps."""
    check_order(shape, order)
    strides, step = [0] * len(shape), 1
    for dim in reversed(order):
        strides[dim] = step
        step *= shape[dim]
    return tuple(strides)


def order_of(shape: Ints, strides: Ints) -> Ints:
    """The order in which memory has the dimensions; those of size 1 stay where they are."""
    check_strides(shape, strides)
    long = [dim for dim, size in enumerate(shape) if size > 1]
    falling = iter(sorted(long, key=lambda dim: -strides[dim]))
    return tuple(next(falling) if size > 1 else dim for dim, size in enumerate(shape))


def is_dense(shape: Ints, strides: Ints, order: Ints | None = None) -> bool:
    """Whether no gap or repetition is between the elements, in that order or in any."""
    order = order_of(shape, strides) if order is None else order
    expected = dense_strides(shape, order)
    return math.prod(shape) == 0 or all(
        stride == step
        for size, stride, step in zip(shape, strides, expected, strict=True)
        if size > 1
    )


def broadcast_strides(shape: Ints, strides: Ints, to: Ints) -> Ints:
    """The strides of a tensor as one of another shape, in which it is repeated.

    Raises:
        ArgumentError: it cannot be.
    """
    check_strides(shape, strides)
    ahead = len(to) - len(shape)
    if ahead < 0 or any(
        size not in (1, wide) for size, wide in zip(shape, to[ahead:], strict=True)
    ):
        raise ArgumentError(f"a tensor of shape {list(shape)} does not broadcast to {list(to)}")
    steps = (0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
    return (*[0] * ahead, *steps)


def collapse(shape: Sequence[int], *strides: Sequence[int]) -> tuple[Ints, list[Ints]]:
    """The same elements in the same order with as few dimensions as the strides let it be.

    Dimensions of size 1 go; two neighbours become one where for each of the strides a step of the
    slower one is all of the faster one. Linear in the number of dimensions.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for dim, size in enumerate(shape):
        if size == 1:
            continue
        here = [each[dim] for each in strides]
        if sizes and all(each[-1] == step * size for each, step in zip(steps, here, strict=True)):
            sizes[-1] *= size
            for each, step in zip(steps, here, strict=True):
                each[-1] = step
            continue
        sizes.append(size)
        for each, step in zip(steps, here, strict=True):
            each.append(step)
    return tuple(sizes), [tuple(each) for each in steps]


def permuted(values: Ints, order: Ints) -> Ints:
    return tuple(values[dim] for dim in order)


def check_order(shape: Ints, order: Ints) -> None:
    if sorted(order) != list(range(len(shape))):
        raise ArgumentError(
            f"order must have each dimension of shape {list(shape)} once, got {list(order)}"
        )


def check_strides(shape: Ints, strides: Ints) -> None:
    if len(shape) != len(strides):
        raise ArgumentError(
            f"strides must be one for each dimension of shape {list(shape)}, got {list(strides)}"
        )


def check_dim(shape: Ints, dim: int) -> None:
    if not 0 <= dim < len(shape):
        raise ArgumentError(f"dim must be a dimension of shape {list(shape)}, got {dim}")


def check_dense(name: str, shape: Ints, strides: Ints, order: Ints | None = None) -> None:
    """Raise ArgumentError if the tensor has gaps, or lies in another order."""
    if not is_dense(shape, strides, order):
        how = "without gaps" if order is None else f"without gaps in the order {list(order)}"
        raise ArgumentError(
            f"{name} must lie in memory {how}; got shape {list(shape)} with strides "
            f"{list(strides)}. Put a copy ahead of it"
        )
