"""How a convolution is tiled: what ships for each architecture, and the model that picks from it.

The pick is the model's: of the configurations that ship and the parts that a sum can be cut into,
the pair that should take the least time. It depends on the sizes and the GPU alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cvperf.backends.cpu.conv2d import convolution_shape, window_of
from cvperf.backends.triton.configs import Config, Space, bucket, config_for
from cvperf.backends.triton.model import LAUNCH_S, Architecture, Tiles, family, seconds

FLAT_CHANNELS = 8
"""Images of up to so many channels are read as a flattened sum: a block of one tap is too short."""
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Layer:
    """A convolution's sizes; channels and filters are those of one group."""

    images: int
    channels: int
    height: int
    width: int
    filters: int
    out_height: int
    out_width: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(
        cls,
        image: Sequence[int],
        weight: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Layer:
        """From the shapes of image and weight."""
        window = window_of(weight, stride, padding, dilation)
        shape = convolution_shape(image, weight, window)
        return cls(
            *(image[0], weight[1], image[2], image[3], weight[0] // groups, shape[2], shape[3]),
            *(groups, window[:2], window[2:4], window[4:6], window[6:]),
        )

    @property
    def depthwise(self) -> bool:
        return self.channels == 1 and self.groups > 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Of all outputs."""
        return self.images * self.out_height * self.out_width

    @property
    def output(self) -> tuple[int, int, int, int]:
        return self.images, self.filters * self.groups, self.out_height, self.out_width

    @property
    def pointwise(self) -> bool:
        """Whether output and image have the same pixels, one to one."""
        return (*self.kernel, *self.stride, *self.padding) == (1, 1, 1, 1, 0, 0)

    @property
    def wide(self) -> bool:
        """Whether an offset within image or output needs 64 bits."""
        image = self.images * self.height * self.width * self.channels * self.groups
        return max(image, math.prod(self.output)) >= 2**31

    @property
    def flat(self) -> int:
        """The channels, if the sum is to be flattened; else 0."""
        few = self.groups == 1 and self.channels <= FLAT_CHANNELS and self.taps > 1
        return self.channels if few and not self.wide else 0


def vector_of(size: int, itemsize: int) -> int:
    """The largest power of two that divides ``size``, up to 16 bytes of it."""
    return math.gcd(size, 16 // itemsize)


# --- what ships -----------------------------------------------------------------------------------


def _shared_bytes(itemsize: int) -> Callable[[Config], int]:
    def shared_bytes(config: Config) -> int:
        tile = (config["BM"] + config["BN"]) * config["BK"] * itemsize
        return max(config.num_stages * tile, config["BM"] * config["BN"] * 4)

    return shared_bytes


def _tile(warps: int, stages: int, bm: int, bn: int, bk: int, itemsize: int) -> Config:
    """BK in bytes."""
    return Config.of(warps, stages, BM=bm, BN=bn, BK=bk // itemsize, GROUP=8)


def _dense(name: str, itemsize: int) -> Space:
    """128 bytes of channels a block: a full line of memory for each pixel and filter."""
    tile = functools.partial(_tile, itemsize=itemsize)
    square = tile(8, 3, 128, 128, 128)
    ampere = {
        "tall": tile(8, 3, 256, 128, 64),
        "square": square,
        "small": tile(4, 3, 64, 64, 128),
    }
    hopper = {
        "wide": tile(8, 3, 128, 256, 128),
        "tall": tile(8, 3, 256, 128, 128),
        "square": square,
        "small": tile(4, 4, 64, 64, 128),
    }
    blackwell = dict(hopper)
    # What spills: tf32, which both take only with the sum along memory, in the gradients' large
    # tiles; on Blackwell the int8 epilogue of the tall one.
    if itemsize == 4:
        del hopper["wide"], hopper["tall"], blackwell["wide"]
    if itemsize != 2:
        del blackwell["tall"]
    more = (
        *(tile(8, 4, 128, 256, 128), tile(8, 4, 128, 128, 128), tile(8, 4, 256, 128, 64)),
        *(tile(8, 4, 128, 64, 128), tile(4, 4, 128, 128, 128)),
    )
    older = (tile(8, 3, 128, 256, 64), tile(4, 4, 128, 128, 64), tile(4, 3, 128, 64, 128))
    return Space(
        name,
        {80: ampere, 90: hopper, 100: blackwell},
        _shared_bytes(itemsize),
        {80: older, 90: more, 100: more},
    )


def _one_for_all(name: str, itemsize: int, kinds: dict[str, Config]) -> Space:
    return Space(name, dict.fromkeys((80, 90, 100), kinds), _shared_bytes(itemsize), {})


def _exact(name: str) -> Space:
    """float32 as three products: twice the registers for the halves of both operands."""
    kinds = {"narrow": _tile(8, 3, 128, 64, 128, 4), "small": _tile(4, 3, 64, 64, 64, 4)}
    return _one_for_all(name, 4, kinds)


def _flat(name: str) -> dict[str, Space]:
    """Numbers are gathered one by one: few to a thread, so that many warps can wait for them."""
    return {
        kind: _one_for_all(
            f"{name} {kind}",
            itemsize,
            {"flat": Config.of(8, 2, BM=64, BN=64, BK=16 if itemsize == 4 else 32, GROUP=8)},
        )
        for kind, itemsize in (("half", 2), ("tf32", 4), ("float32", 4), ("int8", 1))
    }


def _spaces(name: str) -> dict[str, Space]:
    return {
        "half": _dense(f"{name} half", 2),
        "tf32": _dense(f"{name} tf32", 4),
        "float32": _exact(f"{name} float32"),
        "int8": _dense(f"{name} int8", 1),
    }


FORWARD, FLAT = _spaces("conv2d"), _flat("conv2d flat")
INPUT_GRAD = _spaces("conv2d_input_grad")
WEIGHT_GRAD, FLAT_WEIGHT_GRAD = _spaces("conv2d_weight_grad"), _flat("conv2d_weight_grad flat")


# --- the pick -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """The matrix product that a convolution is.

    Attributes:
        rows: of the result, in each of ``copies`` products.
        columns: of the result.
        terms: in the sum, a multiple of ``run``.
        run: terms that lie side by side in memory; blocks of the sum do not cross it.
        copies: products side by side: groups, taps, classes of a stride.
        kind: of multiplication: half, tf32, float32 (three of tf32) or int8.
        itemsize: bytes of an operand.
        memory_bytes: read and written at least once.
    """

    rows: int
    columns: int
    terms: int
    run: int
    copies: int
    kind: str
    itemsize: int
    memory_bytes: int

    def blocks(self, config: Config) -> int:
        """Of the sum."""
        return -(-self.run // config["BK"]) * (self.terms // max(self.run, 1))


def fitted(config: Config, product: Product) -> Config:
    """The configuration for a product that is smaller than its tile."""
    least = 32 if product.kind == "int8" else 16
    sizes = {
        "BN": max(16, min(config["BN"], _power_of_two(product.columns))),
        "BK": max(least, min(config["BK"], _power_of_two(product.run))),
    }
    tile = tuple((name, sizes.get(name, value)) for name, value in config.tile)
    return config if tile == config.tile else replace(config, tile=tile)


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()


def predicted(
    machine: Architecture, space: Space, config: Config, product: Product, splits: int
) -> float:
    """Seconds of the product in this many parts, and of adding them."""
    config = fitted(config, product)
    bm, bn, bk = (config[name] for name in ("BM", "BN", "BK"))
    blocks = -(-product.blocks(config) // splits)
    tiles = -(-product.rows // bm) * -(-product.columns // bn) * product.copies
    results = product.rows * product.columns * product.copies
    work = 2.0 * bm * bn * bk * blocks
    time = seconds(
        machine,
        Tiles(
            count=max(tiles * splits, 1),
            operations=3 * work if product.kind == "float32" else work,
            kind="tf32" if product.kind == "float32" else product.kind,
            l2_bytes=blocks * bk * (bm + bn) * product.itemsize + bm * bn * 4,
            memory_bytes=product.memory_bytes + (4 * splits * results if splits > 1 else 0),
            # The start and end of a tile, and its reads of shared memory, cost as much as 16 more
            # rows and columns. A second tile on a processor hides latency; it adds no arithmetic.
            efficiency=bm / (bm + 16) * bn / (bn + 16),
        ),
    )
    if splits == 1:
        return time
    return time + (4.0 * (splits + 1) * results) / machine.memory_rate + LAUNCH_S


def best_splits(machine: Architecture, space: Space, config: Config, product: Product) -> int:
    """Into how many parts the sum is best cut with this configuration."""
    blocks = product.blocks(fitted(config, product))
    possible = [splits for splits in _SPLITS if splits == 1 or 2 * splits <= blocks]
    return min(possible, key=lambda splits: predicted(machine, space, config, product, splits))


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
        run: takes a configuration that fits the product, and the parts of its sum.
    """

    def arranged(config: Config) -> tuple[Config, int]:
        return _arranged(_Case(machine, space, product), config)

    kind = _likeliest(_Case(machine, space, product))
    sizes = bucket(product.rows, product.columns, product.terms, product.copies)
    config = config_for(
        space,
        kind,
        f"{sizes} {call}",
        machine,
        lambda one: predicted(machine, space, one, product, arranged(one)[1]),
        lambda one: run(*arranged(one)),
    )
    run(*arranged(config))


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


@functools.lru_cache(maxsize=4096)
def _arranged(case: _Case, config: Config) -> tuple[Config, int]:
    splits = best_splits(case.machine, case.space, config, case.product)
    return fitted(config, case.product), splits


@functools.lru_cache(maxsize=4096)
def _likeliest(case: _Case) -> str:
    """The kind whose shipped configuration the model ranks first, of those that fit."""
    machine, space, product = case.machine, case.space, case.product
    shipped = space.shipped[family(machine.capability)]
    fitting = [
        kind for kind in shipped if space.shared_bytes(shipped[kind]) <= machine.shared_bytes
    ]

    def time(kind: str) -> float:
        splits = best_splits(machine, space, shipped[kind], product)
        return predicted(machine, space, shipped[kind], product, splits)

    return min(fitting or shipped, key=time)
