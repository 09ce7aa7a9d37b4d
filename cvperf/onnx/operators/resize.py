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

from cvperf.onnx.node import Node
from cvperf.onnx.registry import operator
from cvperf.onnx.values import TensorValue, Value

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
    scales, sizes = (tuple(x) if isinstance(x, list) else x for x in (scales, sizes))
    axes = node.attribute("axes", None)
    if data.rank is not None and axes is not None:
        axes = tuple(axis % data.rank for axis in axes)
    if axes is None and data.rank is not None:
        axes = tuple(range(data.rank))
    if (mode := _torch_mode(node, data, how, scales, sizes, axes)) is not None:
        return _interpolate(node, data, mode, scales, sizes, axes, how)
    if node.attribute("antialias", 0):
        raise node.unsupported(f"antialias with {how}; linear with half_pixel can be translated")
    corners = None
    if how.coordinates == "tf_crop_and_resize":
        corners = tuple(node.known(1, "corners"))
    return node.emit(resized, data, how, axes, scales, sizes, corners, rank=data.rank)


def _torch_mode(
    node: Node, data: TensorValue, how: Interpolation, scales: Any, sizes: Any, axes: Any
) -> str | None:
    """The mode of torch's interpolation that computes the same, None where none does."""
    wanted = scales if scales is not None else sizes
    if data.rank not in LINEAR or isinstance(wanted, fx.Node) or how.policy != "stretch":
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
    return "bicubic" if plain and not node.attribute("antialias", 0) else None


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
    """Whether the sizes of batch and channels are those that the tensor has.

    Nobody resizes these; a file whose batch is a constant says the number instead.
    """
    return all(
        type(size) is int or size is node.builder.size(data, axis)
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
    if node.attribute("antialias", 0):
        options["antialias"] = True
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
    result = data if how.mode == "nearest" else data.to(torch.float32)
    for position, axis in enumerate(axes):
        cropped = how.coordinates == "tf_crop_and_resize" and corners is not None
        if sizes[position] == before[position] and scales[position] == 1 and not cropped:
            continue
        ends = (corners[position], corners[position + len(axes)]) if cropped and corners else None
        place = _places(data, before[position], sizes[position], scales[position], how, ends)
        rule = how
        if how.nearest == "simple":
            rule = how._replace(nearest="ceil" if scales[position] < 1 else "floor")
        result = _along(result, axis, place, rule, outside=cropped)
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


def _along(data: Tensor, axis: int, place: Tensor, how: Interpolation, outside: bool) -> Tensor:
    last = data.shape[axis] - 1
    if how.mode == "nearest":
        result = data.index_select(axis, _nearest(place, how.nearest).clamp(0, last))
    else:
        taps = _linear_taps(place, last) if how.mode == "linear" else _cubic_taps(place, last, how)
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


def _cubic_taps(place: Tensor, last: int, how: Interpolation) -> list[tuple[Tensor, Tensor]]:
    """Keys' kernel over four pixels; those outside repeat the border, or do not count."""
    low = place.floor()
    taps = []
    for offset in (-1, 0, 1, 2):
        index = low + offset
        weight = _keys((place - index).abs(), how.cubic_a)
        if how.exclude_outside:
            weight = torch.where((index < 0) | (index > last), torch.zeros_like(weight), weight)
        taps.append((index.clamp(0, last).long(), weight))
    if how.exclude_outside:
        total = sum(weight for _, weight in taps)
        taps = [(index, weight / total) for index, weight in taps]
    return taps


def _keys(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
