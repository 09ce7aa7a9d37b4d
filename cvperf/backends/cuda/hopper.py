"""Configurations of the kernels on ``kernels/cuda/mainloop_hopper.cuh``, and how long they take.

A tile has 64 rows for each of GROUPS warpgroups, and BN columns; one more warpgroup loads.
"""

from __future__ import annotations

from cvperf.backends.gpu import model
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.model import Architecture, Tiles

ROW_BYTES = 128
"""Of K in a step: a row of a tile in shared memory, and the span of its swizzle."""


def tile(groups: int, columns: int, stages: int) -> Config:
    """A configuration of such a kernel."""
    return Config.of(4 * (groups + 1), stages, GROUPS=groups, BN=columns)


def is_tile(config: Config) -> bool:
    """Whether a configuration is for such a kernel."""
    return any(name == "GROUPS" for name, _ in config.tile)


def template(config: Config) -> str:
    """Its template arguments."""
    return f"{config['GROUPS']}, {config['BN']}, {config.num_stages}"


def rows(config: Config) -> int:
    """Rows of a tile."""
    return 64 * int(config["GROUPS"])


def shared_bytes(config: Config) -> int:
    """Shared memory: stages, a slab of 16 x 64 sums for each warp, two barriers a stage."""
    stages = config.num_stages * (rows(config) + config["BN"]) * ROW_BYTES
    return int(stages + 4 * config["GROUPS"] * 16 * 64 * 4 + 2 * config.num_stages * 8)


FINISH_STEPS = 3.2
"""Steps that finishing a tile takes the time of.

A sum passes through shared memory: 4 bytes are written and, in two turns, read, at 128 bytes a
clock; a step multiplies at 32 sums a clock. None of it overlaps with products.
"""


def seconds(
    gpu: Architecture,
    config: Config,
    kind: str,
    count: int,
    steps: int,
    memory_bytes: float,
    out_bytes: int,
) -> float:
    """Predicted seconds of ``count`` tiles of so many steps of 128 bytes of K.

    Args:
        gpu: that runs it.
        config: of the kernel.
        kind: of multiplication, ``"int8"`` or ``"half"``.
        count: tiles.
        steps: of each.
        memory_bytes: that must be moved at least.
        out_bytes: of an output.
    """
    down, across = rows(config), int(config["BN"])
    depth = ROW_BYTES * steps
    landed, read = down + across, int(config["GROUPS"]) * (64 + across)
    multiplied = depth if kind == "int8" else depth / 2
    tiles = Tiles(
        count=count,
        operations=2.0 * down * across * multiplied,
        kind=kind,
        l2_bytes=landed * depth + down * across * out_bytes,
        memory_bytes=memory_bytes,
        efficiency=steps / (steps + FINISH_STEPS),
        l1_bytes=(landed + read) * depth,
    )
    return model.seconds(gpu, tiles)
