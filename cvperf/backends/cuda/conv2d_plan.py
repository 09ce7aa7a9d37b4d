"""How a convolution is tiled in CUDA C++: what ships, and the model that picks from it.

The pick is the model's: of the configurations that ship and the parts that a sum can be cut into,
the pair that should take the least time. It depends on the sizes and the GPU alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cvperf.backends.cuda import hopper, tensor_map
from cvperf.backends.cuda.configs import config_for
from cvperf.backends.cuda.mainloop import MMA_SYNC, shared_bytes
from cvperf.backends.gpu import conv2d_product as products
from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.conv2d_layer import Layer, vector_of
from cvperf.backends.gpu.conv2d_product import SPLITS, Product
from cvperf.backends.gpu.model import LAUNCH_S, Architecture, Tiles, family, seconds

GROUP = 8
"""Rows of tiles that are taken before the next column: what they share stays in L2."""

_LEAST = 4
"""Numbers that a copy reads at least: 4 bytes of 8-bit ones, 8 of 16-bit ones."""


# --- what copies can read ------------------------------------------------------------------------


def copied_at_once(size: int, itemsize: int) -> int:
    """Numbers that a copy reads of runs of ``size``, which is a multiple of 4: 16 bytes or less."""
    vector = vector_of(size, itemsize)
    return vector if vector * itemsize == 16 else _LEAST


def up_to_copies(size: int) -> int:
    """The size that runs of ``size`` numbers are padded to, for copies to read them."""
    return -(-size // _LEAST) * _LEAST


def with_copies(layer: Layer) -> Layer:
    """The layer with channels that copies can read."""
    return replace(layer, channels=up_to_copies(layer.channels))


# --- what ships -----------------------------------------------------------------------------------


def _tile(
    itemsize: int, bm: int, bn: int, depth: int, warps_m: int, warps: int, stages: int
) -> Config:
    """``depth`` in bytes."""
    return Config.of(warps, stages, BM=bm, BN=bn, BK=depth // itemsize, WARPS_M=warps_m)


def _space(name: str, itemsize: int, few: tuple[int, ...] | None = None) -> Space:
    """Warps of 64 x 64; narrow ones for few filters, small tiles for few pixels.

    ``few``: one tile instead, for channels that copies of 16 bytes do not divide into.
    """
    tile = functools.partial(_tile, itemsize)
    more: tuple[Config, ...] = ()
    if few is None:
        shipped = {
            "square": tile(128, 128, 64, 2, 4, 4),
            "narrow": tile(128, 64, 64, 2, 4, 4),
            "small": tile(64, 64, 128, 2, 4, 3),
        }
        more = (
            tile(128, 256, 64, 2, 8, 4),
            tile(256, 128, 64, 4, 8, 4),
            tile(128, 64, 128, 2, 4, 3),
        )
    else:
        shipped = {"few": tile(*few)}
    return Space(
        name,
        dict.fromkeys((80, 90, 100), shipped),
        functools.partial(shared_bytes, itemsize),
        dict.fromkeys((80, 90, 100), more),
    )


def _spaces(name: str, itemsize: int, few: tuple[int, ...]) -> dict[bool, Space]:
    return {True: _space(name, itemsize), False: _space(f"{name} few", itemsize, few)}


_NARROW, _SMALL = (128, 64, 64, 2, 4, 4), (64, 64, 64, 2, 4, 4)
FORWARD = {
    "half": _spaces("conv2d half", 2, _NARROW),
    "int8": _spaces("conv2d int8", 1, _NARROW),
}
"""kind of multiplication -> whether copies are of 16 bytes -> configurations."""


def _tensor_copies(name: str, itemsize: int) -> Space:
    """Of sm_90a, by TMA and wgmma; few pixels are left to small tiles, whose sums can be cut."""
    others = _space(name, itemsize)
    shipped = {
        "wide": hopper.tile(256, 128, 4),
        "square": hopper.tile(128, 128, 6),
        "narrow": hopper.tile(128, 64, 8),
        "small": others.shipped[90]["small"],
    }
    more = (*others.shipped[90].values(), *others.more[90])
    return Space(f"{name} sm_90a", {90: shipped}, others.shared_bytes, {90: more})


BY_TENSOR_COPIES = {
    "half": _tensor_copies("conv2d half", 2),
    "int8": _tensor_copies("conv2d int8", 1),
}
"""kind of multiplication -> configurations where ``takes_tensor_copies``."""
INPUT_GRAD = _spaces("conv2d_input_grad half", 2, _SMALL)
WEIGHT_GRAD = _spaces("conv2d_weight_grad half", 2, _SMALL)


def takes_tensor_copies(
    machine: Architecture, layer: Layer, itemsize: int, weight_pitch: int, fill: int = 0
) -> bool:
    """Whether the kernel of sm_90a can run it: what tensor maps describe, and zeros outside."""
    geometry = (layer.kernel, layer.stride, layer.padding, layer.dilation)
    return (
        family(machine.capability) == 90
        and (layer.groups, fill) == (1, 0)
        and layer.channels * itemsize % 16 == 0
        and weight_pitch * itemsize % 16 == 0
        and tensor_map.im2col_reaches(*geometry)
        and layer.pixels > 0
    )


def forward_choices(
    machine: Architecture,
    layer: Layer,
    kind: str,
    sizes: tuple[int, int],
    weight_pitch: int,
    fill: int = 0,
) -> tuple[Space, Product]:
    """The configurations that can run a forward pass, and the product that it is.

    Args:
        machine: the GPU.
        layer: its sizes, with channels that copies can read.
        kind: of multiplication.
        sizes: bytes of a number of the image, of the output.
        weight_pitch: numbers from filter to filter.
        fill: the image's value that stands for zero, where the window leaves it.
    """
    if takes_tensor_copies(machine, layer, sizes[0], weight_pitch, fill):
        product = products.forward_product(layer, kind, *sizes)
        return BY_TENSOR_COPIES[kind], replace(product, run=layer.channels)
    vectors = copied_at_once(layer.channels, sizes[0]) * sizes[0] == 16
    return FORWARD[kind][vectors], forward_product(layer, kind, *sizes)


# --- the products, as these kernels sum them ------------------------------------------------------


def forward_product(layer: Layer, kind: str, itemsize: int, out_itemsize: int) -> Product:
    """Blocks of the sum cross the border of taps."""
    product = products.forward_product(layer, kind, itemsize, out_itemsize)
    return replace(product, run=product.terms)


def input_grad_product(layer: Layer) -> Product:
    return products.input_grad_product(layer, "half", 2)


def weight_grad_product(layer: Layer) -> Product:
    """Columns are the channels of all taps."""
    product = products.weight_grad_product(layer, "half", 2)
    return replace(product, columns=layer.taps * layer.channels, copies=layer.groups)


# --- the pick -------------------------------------------------------------------------------------


def _warp(config: Config) -> tuple[int, int]:
    """Rows and columns of a tile that a warp multiplies."""
    return config["BM"] // config["WARPS_M"], config["BN"] * config["WARPS_M"] // config.num_warps


def predicted(machine: Architecture, config: Config, product: Product, splits: int) -> float:
    """Seconds of the product in this many parts, and of adding them."""
    if hopper.is_tile(config):
        return _predicted_by_tensor_copies(machine, config, product)
    bm, bn, bk = (config[name] for name in ("BM", "BN", "BK"))
    size = product.itemsize
    blocks = -(-product.blocks(bk) // splits)
    tiles = -(-product.rows // bm) * -(-product.columns // bn) * product.copies
    results = product.rows * product.columns * product.copies
    read = blocks * bk * size
    fragments = config.num_warps * sum(_warp(config))
    time = seconds(
        machine,
        Tiles(
            count=tiles * splits,
            operations=2.0 * bm * bn * bk * blocks,
            kind=product.kind,
            l2_bytes=read * (bm + bn) + bm * bn * 4,
            memory_bytes=product.memory_bytes + (4 * splits * results if splits > 1 else 0),
            # The start and end of a tile cost as much as 16 more rows and columns. A second tile
            # on a processor hides latency; it adds no arithmetic.
            efficiency=MMA_SYNC[family(machine.capability)] * bm / (bm + 16) * bn / (bn + 16),
            l1_bytes=read * (bm + bn + fragments),  # shared memory: written once, read by ldmatrix
        ),
    )
    if splits == 1:
        return time
    return time + (4.0 * (splits + 1) * results) / machine.memory_rate + LAUNCH_S


def _predicted_by_tensor_copies(machine: Architecture, config: Config, product: Product) -> float:
    return hopper.seconds(
        *(machine, config, product.kind),
        count=hopper.tiles(config, product.rows, product.columns),
        steps=product.blocks(hopper.ROW_BYTES // product.itemsize),
        memory_bytes=product.memory_bytes,
        out_bytes=product.itemsize,
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """A product on a machine, as a key: a machine is known by its size."""

    machine: Architecture
    space: Space
    product: Product

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Case) and self._key == other._key

    @property
    def _key(self) -> tuple[object, ...]:
        machine = (self.machine.capability, self.machine.processors, self.machine.shared_bytes)
        return (*machine, self.space.kernel, self.product)


def best_splits(machine: Architecture, config: Config, product: Product) -> int:
    """Into how many parts the sum is best cut with this configuration."""
    if hopper.is_tile(config):
        return 1
    blocks = product.blocks(config["BK"])
    possible = [splits for splits in SPLITS if splits == 1 or 2 * splits <= blocks]
    return min(possible, key=lambda splits: predicted(machine, config, product, splits))


@functools.lru_cache(maxsize=4096)
def _splits(case: _Case, config: Config) -> int:
    return best_splits(case.machine, config, case.product)


@functools.lru_cache(maxsize=4096)
def _likeliest(case: _Case) -> str:
    """The kind whose shipped configuration the model ranks first, of those that fit."""
    machine, shipped = case.machine, case.space.shipped[family(case.machine.capability)]
    fitting = [
        kind for kind in shipped if case.space.shared_bytes(shipped[kind]) <= machine.shared_bytes
    ]

    def time(kind: str) -> float:
        splits = best_splits(machine, shipped[kind], case.product)
        return predicted(machine, shipped[kind], case.product, splits)

    return min(fitting or shipped, key=time)


def predicted_best(
    machine: Architecture, space: Space, product: Product, forced: str | None = None
) -> float:
    """Seconds that the pick, or the forced kind, should take, by the model."""
    config = space.default(machine, forced or _likeliest(_Case(machine, space, product)))
    return predicted(machine, config, product, best_splits(machine, config, product))


def predicted_share(
    machine: Architecture, space: Space, product: Product, forced: str | None = None
) -> float:
    """Share of the roofline that the pick, or the forced kind, should reach, by the model."""
    return product.least_seconds(machine) / predicted_best(machine, space, product, forced)


def predicted_forward_share(
    machine: Architecture, layer: Layer, kind: str, itemsize: int, forced: str | None = None
) -> float:
    """The same of a forward pass, with the copy that pads its channels."""
    wide = with_copies(layer)
    sizes, pitch = (itemsize, itemsize), wide.taps * wide.channels
    time = predicted_best(machine, *forward_choices(machine, wide, kind, sizes, pitch), forced)
    if wide.channels != layer.channels:
        moved = layer.images * layer.height * layer.width * layer.groups * itemsize
        time += 2 * LAUNCH_S + moved * (layer.channels + wide.channels) / machine.memory_rate
    return forward_product(layer, kind, itemsize, itemsize).least_seconds(machine) / time


def predicted_grad_share(
    machine: Architecture, layer: Layer, of: str, forced: str | None = None
) -> float:
    """The same of the gradient of ``"input"`` or ``"weight"``."""
    wide = with_copies(layer)
    at_once = copied_at_once(math.gcd(wide.channels, up_to_copies(layer.filters)), 2) == 8
    if of == "input":
        return predicted_share(machine, INPUT_GRAD[at_once], input_grad_product(layer), forced)
    return predicted_share(machine, WEIGHT_GRAD[at_once], weight_grad_product(wide), forced)


def run_best(
    machine: Architecture,
    space: Space,
    product: Product,
    call: str,
    run: Callable[[Config, int], Any],
) -> None:
    """Run a product with the configuration that is predicted, or was measured, to be fastest.

    Args:
        machine: the GPU.
        space: the kernel's configurations.
        product: what is computed.
        call: names what else a measurement holds for: dtypes, kernel size.
        run: takes a configuration and the parts of its sum.
    """
    case = _Case(machine, space, product)

    config = config_for(
        space,
        _likeliest(case),
        f"{bucket(product.rows, product.columns, product.terms, product.copies)} {call}",
        machine,
        lambda one: predicted(machine, one, product, _splits(case, one)),
        lambda one: run(one, _splits(case, one)),
    )
    run(config, _splits(case, config))
