"""How a depthwise convolution is tiled: what ships, and the model that picks from it.

No tensor core multiplies it: multiply-adds share the processors' issue slots with conversions,
addresses and loads, so the model counts instructions, as they stand in what is compiled for sm_90.
Every tap is a load that L1 serves; L2 serves each tile once, with its halo.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.conv2d_depthwise_model import Gather, footprint, least_seconds
from cvperf.backends.gpu.conv2d_layer import Layer, power_of_two, vector_of
from cvperf.backends.gpu.model import (
    LAUNCH_S,
    Architecture,
    Tiles,
    family,
    seconds,
)
from cvperf.backends.triton.configs import config_for

# 16 bytes of channels a thread; ties go to the first.
_SHIPPED = {
    "large": Config.of(4, 2, BP=64, BC=64),
    "narrow": Config.of(4, 2, BP=128, BC=32),  # channels that leave half of the last 64 empty
    "small": Config.of(4, 2, BP=16, BC=64),  # few pixels
}
SPACE = Space(
    "conv2d_depthwise",
    dict.fromkeys((80, 90, 100), _SHIPPED),
    lambda config: 0,
    dict.fromkeys((80, 90, 100), (Config.of(4, 2, BP=32, BC=64), Config.of(4, 2, BP=32, BC=32))),
)
_WEIGHT_GRAD_TILE = 128
"""Taps of a row times pixels of a program, so that their sums fit the registers."""

# Instructions of a thread. Values are unpacked to the sums' type before they are multiplied; of an
# 8-bit one the zero point is taken off, and one outside the image is selected away.
_VALUE = {4: 1, 2: 2, 1: 4}  # bytes of a value -> unpack and multiply
_UNPACK = {4: 0, 2: 1, 1: 1}
_LOAD = 10  # the load, its address and its mask
_TURNED = 20  # more: two divisions by the stride, which is not known when it is compiled
_WEIGHT_GRAD_LOAD = 24  # with the divisions that find a pixel, anew in every block
_START, _END = 100, 12  # of a program, and of each value of its output
_WARPS = 16  # that a processor needs to issue at its rate
_EFFICIENCY = 0.8  # of the rate of issue
_PART_S = 0.1e-6  # to add one part to those before it, by few programs: the latency of L2


def predicted(machine: Architecture, config: Config, gather: Gather) -> float:
    """Seconds, with the copy that puts the taps of a float weight first."""
    layer, size = gather.layer, gather.itemsize
    bp, bc, threads = config["BP"], config["BC"], 32 * config.num_warps
    count = math.ceil(gather.pixels / bp) * math.ceil(gather.channels / bc)
    loads = layer.taps * (layer.filters if gather.turned else 1)
    vector, vectors = _vectors(config, 1 if layer.filters > 1 else gather.channels, size)
    address = _LOAD + (_TURNED if gather.turned else 0)
    tap = vectors * (vector * _VALUE[size] + address) + vector * _UNPACK[size] + _LOAD
    instructions = loads * tap + _START + _END * vector * vectors
    # Masked loads move nothing: beyond the tile's last pixel and channel, and taps between strides.
    filled = gather.pixels * gather.channels / max(count * bp * bc, 1)
    exist = 1 / layer.classes if gather.turned else 1.0
    read = footprint(layer, bp, layer.kernel[0], gather.turned)
    tiles = Tiles(
        count=count,
        operations=instructions * config.num_warps,
        kind="issue",
        l2_bytes=filled * bc * (read * loads / layer.taps * size + bp * gather.written_bytes),
        memory_bytes=gather.memory_bytes,
        blocks=max(1, _WARPS // config.num_warps),
        efficiency=_EFFICIENCY,
        l1_bytes=filled * loads * size * (exist * bp * bc + threads * vector),
    )
    return seconds(machine, tiles, launches=1 if size == 1 else 2)


def predicted_share(machine: Architecture, gather: Gather) -> float:
    """Share of the roofline that the pick should reach, by the model."""
    config = SPACE.default(machine, _likeliest(machine, gather))
    return least_seconds(machine, gather.layer, gather.memory_bytes) / predicted(
        machine, config, gather
    )


def run_best(machine: Architecture, gather: Gather, run: Callable[[Config], Any]) -> None:
    """Run it with the configuration that is predicted, or was measured, to be fastest."""
    layer = gather.layer
    sizes = bucket(gather.pixels, gather.channels)
    name = f"{layer.kernel} {layer.stride} {layer.filters}"
    values = f"{gather.itemsize} {gather.out_itemsize}"
    config = config_for(
        SPACE,
        _likeliest(machine, gather),
        f"{sizes} {name} {values}{' turned' if gather.turned else ''}",
        machine,
        lambda one: predicted(machine, one, gather),
        run,
    )
    run(config)


@functools.lru_cache(maxsize=4096)
def _likeliest(machine: Architecture, gather: Gather) -> str:
    shipped = SPACE.shipped[family(machine.capability)]
    return min(shipped, key=lambda kind: predicted(machine, shipped[kind], gather))


# --- the gradient of the weight -------------------------------------------------------------------


def weight_grad_tiling(machine: Architecture, layer: Layer) -> tuple[Config, int, int]:
    """The configuration, programs of one part of the pixels, and the parts."""
    columns = power_of_two(layer.kernel[1])
    config = Config.of(4, 2, BP=max(1, min(32, _WEIGHT_GRAD_TILE // columns)), BC=64)
    programs = layer.kernel[0] * math.ceil(layer.filters * layer.groups / config["BC"])
    slots = machine.processors * (_WARPS // config.num_warps)
    # A program should have some blocks to add up before it stores.
    parts = min(math.ceil(layer.pixels / config["BP"]) // 4, slots // programs)
    return config, programs, max(1, parts)


def weight_grad_predicted(machine: Architecture, layer: Layer, itemsize: int) -> float:
    """Seconds of the parts, of adding them, and of the copy that puts the taps last."""
    config, programs, parts = weight_grad_tiling(machine, layer)
    bp, bc, kw = config["BP"], config["BC"], layer.kernel[1]
    filters = layer.filters * layer.groups
    blocks = math.ceil(math.ceil(layer.pixels / bp) / parts)
    vector, vectors = _vectors(config, 1 if layer.filters > 1 else filters, itemsize)
    loads = (kw + 1) * (vector * _UNPACK[itemsize] + _WEIGHT_GRAD_LOAD)
    block = vectors * (loads + vector * power_of_two(kw))
    filled = filters / (math.ceil(filters / bc) * bc)
    read = footprint(layer, bp, 1, turned=False)
    sums = 4 * layer.taps * filters
    tiles = Tiles(
        count=programs * parts,
        operations=(blocks * block + _START) * config.num_warps,
        kind="issue",
        l2_bytes=filled * bc * (blocks * (read + bp) * itemsize + 4 * kw),
        memory_bytes=layer.numbers * itemsize + parts * sums,
        blocks=_WARPS // config.num_warps,
        efficiency=_EFFICIENCY,
        l1_bytes=filled * blocks * bp * bc * (kw + 1) * itemsize,
    )
    added = parts * _PART_S + (parts + 1) * sums / machine.memory_rate
    return seconds(machine, tiles) + added + 2 * LAUNCH_S


def weight_grad_predicted_share(machine: Architecture, layer: Layer, itemsize: int) -> float:
    """Share of the roofline that it should reach, by the model."""
    least = least_seconds(machine, layer, layer.numbers * itemsize)
    return least / weight_grad_predicted(machine, layer, itemsize)


# --- what both count ------------------------------------------------------------------------------


def _vectors(config: Config, channels: int, itemsize: int) -> tuple[int, int]:
    """Values that a thread loads at a time, and how often for its part of a tile."""
    values = max(1, config["BP"] * config["BC"] // (32 * config.num_warps))
    vector = min(vector_of(channels, itemsize), values)
    return vector, math.ceil(values / vector)
