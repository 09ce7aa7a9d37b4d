"""How a convolution is tiled: what ships for each architecture, and the model that picks from it.

The pick is the model's: of the configurations that ship and the parts that a sum can be cut into,
the pair that should take the least time. It depends on the sizes and the GPU alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.conv2d_layer import power_of_two
from cvperf.backends.gpu.conv2d_product import SPLITS, Product
from cvperf.backends.gpu.model import LAUNCH_S, Architecture, Tiles, family, seconds
from cvperf.backends.triton.configs import config_for

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
    if itemsize == 4:
        blackwell["square"] = tile(8, 4, 128, 64, 128)
    # Further ones, without those that spill.
    newer = [tile(8, 4, 128, 64, 128)]
    older = [tile(8, 3, 128, 256, 64), tile(4, 3, 128, 64, 128)]
    if itemsize != 4:
        newer += [tile(8, 4, 128, 256, 128), tile(8, 4, 128, 128, 128)]
        older.append(tile(4, 4, 128, 128, 64))
    more = {80: older, 90: [tile(8, 4, 256, 128, 64), *newer], 100: newer}
    return Space(
        name,
        {80: ampere, 90: hopper, 100: blackwell},
        _shared_bytes(itemsize),
        {capability: tuple(some) for capability, some in more.items()},
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
            {"flat": Config.of(8, stages, BM=64, BN=64, BK=block, GROUP=8)},
        )
        for kind, itemsize, stages, block in (
            *(("half", 2, 2, 32), ("int8", 1, 2, 32)),
            *(("tf32", 4, 3, 16), ("float32", 4, 3, 16)),
        )
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


def fitted(config: Config, product: Product) -> Config:
    """The configuration for a product that is smaller than its tile."""
    least = 32 if product.kind == "int8" else 16
    sizes = {
        "BN": max(16, min(config["BN"], power_of_two(product.columns))),
        "BK": max(least, min(config["BK"], power_of_two(product.run))),
    }
    tile = tuple((name, sizes.get(name, value)) for name, value in config.tile)
    return config if tile == config.tile else replace(config, tile=tile)


def predicted(
    machine: Architecture, space: Space, config: Config, product: Product, splits: int
) -> float:
    """Seconds of the product in this many parts, and of adding them."""
    config = fitted(config, product)
    bm, bn, bk = (config[name] for name in ("BM", "BN", "BK"))
    blocks = -(-product.blocks(config["BK"]) // splits)
    tiles = -(-product.rows // bm) * -(-product.columns // bn) * product.copies
    results = product.rows * product.columns * product.copies
    work = 2.0 * bm * bn * bk * blocks
    time = seconds(
        machine,
        Tiles(
            count=tiles * splits,
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
    blocks = product.blocks(fitted(config, product)["BK"])
    possible = [splits for splits in SPLITS if splits == 1 or 2 * splits <= blocks]
    return min(possible, key=lambda splits: predicted(machine, space, config, product, splits))


def predicted_best(
    machine: Architecture, space: Space, product: Product, forced: str | None = None
) -> float:
    """Seconds that the pick, or the forced kind, should take, by the model."""
    config = space.default(machine, forced or _likeliest(_Case(machine, space, product)))
    splits = best_splits(machine, space, config, product)
    return predicted(machine, space, config, product, splits)


def predicted_share(
    machine: Architecture, space: Space, product: Product, forced: str | None = None
) -> float:
    """Share of the roofline that the pick, or the forced kind, should reach, by the model."""
    least = product.least_seconds(machine)
    return least / predicted_best(machine, space, product, forced)


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
