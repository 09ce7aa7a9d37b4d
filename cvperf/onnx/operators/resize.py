"""``Resize`` and ``Upsample``: by torch's interpolation where it means the same, else by taps.

The slow path computes, for each axis by itself, which pixels count for each new one and how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from cvperf.onnx.arithmetic import decimal
from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import TensorValue, Traced, Value

LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


class Interpolation(NamedTuple):
    """How new pixels are computed; the fields are ONNX's attributes."""

    mode: str
    coordinates: str
    nearest: str = "floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    policy: str = "stretch"
    antialias: bool = False


@operator("Upsample")
def upsample(node: Node) -> Value:
    """Scales are an attribute before opset 9, an input from then on."""
    scales = node.attributes.get("scales") or node.numbers(1)
    how = Interpolation(_mode(node), "asymmetric", "simple")
    return _resize(node, how, scales, None)


@operator("Resize", since=10)
def resize_10(node: Node) -> Value:
    """Opset 10 says nothing of rounding; ONNX Runtime rounds up where an axis gets shorter."""
    how = Interpolation(_mode(node), "asymmetric", "simple")
    return _resize(node, how, node.numbers(1), None)


@operator("Resize", since=11)
def resize(node: Node) -> Value:
    how = Interpolation(
        _mode(node),
        node.attribute("coordinate_transformation_mode", "half_pixel"),
        node.attribute("nearest_mode", "round_prefer_floor"),
        node.attribute("cubic_coeff_a", -0.75),
        bool(node.attribute("exclude_outside", 0)),
        node.attribute("extrapolation_value", 0.0),
        node.attribute("keep_aspect_ratio_policy", "stretch"),
        bool(node.attribute("antialias", 0)),
    )
    scales = node.numbers(2) if node.has(2) else ()
    if isinstance(scales, fx.Node) or scales:
        return _resize(node, how, scales, None)
    return _resize(node, how, None, node.numbers(3))


def _mode(node: Node) -> str:
    mode = node.attribute("mode", "nearest")
    return "linear" if mode == "bilinear" else str(mode)


def _resize(node: Node, how: Interpolation, scales: Any, sizes: Any) -> Value:
    data = node.tensor(0)
    if isinstance(scales, (list, tuple)):
        scales = tuple(decimal(s) if isinstance(s, float) else s for s in scales)
    axes = node.attribute("axes", None)
    if data.rank is not None and axes is not None:
        axes = tuple(axis % data.rank for axis in axes)
    if axes is None and data.rank is not None:
        axes = tuple(range(data.rank))
    if (mode := _torch_mode(node, data, how, scales, sizes, axes)) is not None:
        return _interpolate(node, data, mode, scales, sizes, axes, how)
    corners = None
    if how.coordinates == "tf_crop_and_resize":
        corners = tuple(node.known(1, "corners"))
    return node.emit(resized, data, how, axes, scales, sizes, corners, rank=data.rank)


def _torch_mode(
    node: Node, data: TensorValue, how: Interpolation, scales: Any, sizes: Any, axes: Any
) -> str | None:
    """The mode of torch's interpolation that computes the same, None where none does."""
    wanted = scales if scales is not None else sizes
    if data.rank not in LINEAR or isinstance(wanted, fx.Node):
        return None
    if how.policy != "stretch" or how.antialias:
        return None
    if set(axes) - set(range(2, data.rank)):
        outer = [wanted[axes.index(axis)] for axis in (0, 1) if axis in axes]
        ones = (
            all(scale == 1 for scale in outer) if scales is not None else _kept(node, data, outer)
        )
        if not ones:
            return None
    factors = [scale for scale in scales or () if scale != 1]
    integral = bool(factors) and all(type(f) is float and f >= 1 and f == int(f) for f in factors)
    if how.mode == "nearest":
        longer = all(type(factor) is float and factor >= 1 for factor in factors)
        return _nearest_mode(how, integral, longer)
    # With one pixel left, pytorch_half_pixel takes the first.
    single = sizes is not None and any(size == 1 for size in sizes[-(data.rank - 2) :])
    centred = how.coordinates == "half_pixel" or (
        how.coordinates == "pytorch_half_pixel" and not single
    )
    if not centred and how.coordinates != "align_corners":
        return None
    if how.mode == "linear":
        return LINEAR[data.rank]
    plain = how.cubic_a == -0.75 and not how.exclude_outside and data.rank == 4
    return "bicubic" if plain else None


def _nearest_mode(how: Interpolation, integral: bool, longer: bool) -> str | None:
    centred = how.coordinates in ("half_pixel", "pytorch_half_pixel")
    if how.coordinates == "asymmetric" and how.nearest == "floor":
        return "nearest"
    if how.nearest == "simple" and longer:
        return "nearest"
    if centred and how.nearest.startswith("round") and integral:
        return "nearest"  # no new pixel lies half-way between two old ones
    return (
        "nearest-exact"
        if how.coordinates == "half_pixel" and how.nearest == "round_prefer_ceil"
        else None
    )


def _kept(node: Node, data: TensorValue, sizes: Sequence[Any]) -> bool:
    """Whether the sizes of batch and channels are surely those that the tensor has."""
    fixed = data.sizes if isinstance(data, Traced) else data.tensor.shape
    return all(
        size is node.builder.size(data, axis) or (axis < len(fixed) and size == fixed[axis])
        for axis, size in enumerate(sizes)
    )


def _interpolate(
    node: Node, data: TensorValue, mode: str, scales: Any, sizes: Any, axes: Any, how: Interpolation
) -> Value:
    assert data.rank is not None
    spatial = range(2, data.rank)
    options: dict[str, Any] = {"mode": mode}
    if scales is not None:
        factors = [scales[axes.index(axis)] if axis in axes else 1.0 for axis in spatial]
        options["scale_factor"] = tuple(factors)
    else:
        options["size"] = tuple(
            sizes[axes.index(axis)] if axis in axes else node.builder.size(data, axis)
            for axis in spatial
        )
    if not mode.startswith("nearest"):
        options["align_corners"] = how.coordinates == "align_corners"
    return node.emit(F.interpolate, data, rank=data.rank, **options)


def resized(
    data: Tensor,
    how: Interpolation,
    axes: Sequence[int] | None,
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    corners: Sequence[float] | None,
) -> Tensor:
    """Interpolate along each axis that changes, by ONNX's formulas."""
    axes = [axis % data.dim() for axis in axes] if axes is not None else list(range(data.dim()))
    before = [data.shape[axis] for axis in axes]
    if scales is None:
        assert sizes is not None
        scales, sizes = _scales(before, sizes, how.policy)
    else:
        sizes = [math.floor(size * scale) for size, scale in zip(before, scales, strict=True)]
    wide = torch.promote_types(data.dtype, torch.float32)
    result = data if how.mode == "nearest" else data.to(wide)
    for position, axis in enumerate(axes):
        cropped = how.coordinates == "tf_crop_and_resize" and corners is not None
        if sizes[position] == before[position] and scales[position] == 1 and not cropped:
            continue
        ends = (corners[position], corners[position + len(axes)]) if cropped and corners else None
        place = _places(data, before[position], sizes[position], scales[position], how, ends)
        rule = how
        if how.nearest == "simple":
            rule = how._replace(nearest="ceil" if scales[position] < 1 else "floor")
        result = _along(result, axis, place, rule, scales[position], outside=cropped)
    return result.to(data.dtype)


def _scales(
    before: Sequence[int], sizes: Sequence[int], policy: str
) -> tuple[list[float], Sequence[int]]:
    scales = [size / old for size, old in zip(sizes, before, strict=True)]
    if policy == "stretch":
        return scales, sizes
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(sizes), [math.floor(scale * old + 0.5) for old in before]


def _places(
    like: Tensor,
    before: int,
    after: int,
    scale: float,
    how: Interpolation,
    ends: tuple[float, float] | None,
) -> Tensor:
    """Where each new pixel lies among the old ones."""
    new = torch.arange(after, dtype=torch.float32, device=like.device)
    if how.coordinates == "asymmetric":
        return new / scale
    if how.coordinates == "align_corners":
        return new * ((before - 1) / (after - 1)) if after > 1 else new * 0
    if how.coordinates == "pytorch_half_pixel" and after == 1:
        return new * 0
    if how.coordinates == "half_pixel_symmetric":
        shift = before / 2 * (1 - after / (scale * before))
        return shift + (new + 0.5) / scale - 0.5
    if ends is not None:
        start, end = ends
        if after == 1:
            return new + 0.5 * (start + end) * (before - 1)
        return start * (before - 1) + new * ((end - start) * (before - 1) / (after - 1))
    return (new + 0.5) / scale - 0.5


def _along(
    data: Tensor, axis: int, place: Tensor, how: Interpolation, scale: float, outside: bool
) -> Tensor:
    last = data.shape[axis] - 1
    if how.mode == "nearest":
        result = data.index_select(axis, _nearest(place, how.nearest).clamp(0, last))
    else:
        plain = how.mode == "linear" and not how.antialias
        taps = _linear_taps(place, last) if plain else _kernel_taps(place, last, how, scale)
        shape = [-1 if index == axis else 1 for index in range(data.dim())]
        result = sum(  # type: ignore[assignment]
            data.index_select(axis, index) * weight.reshape(shape) for index, weight in taps
        )
    if not outside:
        return result
    beyond = (place < 0) | (place > last)
    shape = [-1 if index == axis else 1 for index in range(data.dim())]
    return torch.where(beyond.reshape(shape), how.extrapolation, result)


def _nearest(place: Tensor, rule: str) -> Tensor:
    if rule == "floor":
        return place.floor().long()
    if rule == "ceil":
        return place.ceil().long()
    if rule == "round_prefer_ceil":
        return (place + 0.5).floor().long()
    return (place - 0.5).ceil().long()


def _linear_taps(place: Tensor, last: int) -> list[tuple[Tensor, Tensor]]:
    place = place.clamp(0, last)
    low = place.floor()
    share = place - low
    return [(low.long(), 1 - share), ((low + 1).clamp(max=last).long(), share)]


def _kernel_taps(
    place: Tensor, last: int, how: Interpolation, scale: float
) -> list[tuple[Tensor, Tensor]]:
    """A kernel over the pixels within its reach; those outside repeat the border, or do not count.

    Against aliasing the kernel is as much wider as the image gets smaller.
    """
    shrink = min(scale, 1.0) if how.antialias else 1.0
    reach = math.ceil((1 if how.mode == "linear" else 2) / shrink)
    low = place.floor()
    taps = []
    for offset in range(1 - reach, 1 + reach):
        index = low + offset
        distance = (place - index).abs() * shrink
        linear = how.mode == "linear"
        weight = (1 - distance).clamp(min=0) if linear else _keys(distance, how.cubic_a)
        if how.exclude_outside:
            weight = torch.where((index < 0) | (index > last), torch.zeros_like(weight), weight)
        taps.append((index.clamp(0, last).long(), weight))
    total = torch.stack([weight for _, weight in taps]).sum(0)
    return [(index, weight / total) for index, weight in taps]


def _keys(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
