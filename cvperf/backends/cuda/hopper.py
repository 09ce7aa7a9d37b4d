"""Configurations of the kernels on ``kernels/cuda/mainloop_hopper.cuh``, and how long they take."""

from __future__ import annotations

from cvperf.backends.gpu import model
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.model import Architecture, Tiles

ROW_BYTES = 128
"""Of K in a step: a row of a tile in shared memory, and the span of its swizzle."""

WARPS = 12
"""Two warpgroups multiply, one loads."""


def tile(rows: int, columns: int, stages: int) -> Config:
    """A configuration of such a kernel."""
    return Config.of(WARPS, stages, ROWS=rows, COLUMNS=columns)


def is_tile(config: Config) -> bool:
    """Whether a configuration is for such a kernel."""
    return any(name == "ROWS" for name, _ in config.tile)


def size(config: Config) -> tuple[int, int]:
    """Rows and columns of a tile."""
    return config["ROWS"], config["COLUMNS"]


def template(config: Config) -> str:
    """The template arguments: rows, columns, stages."""
    rows, columns = size(config)
    return f"{rows}, {columns}, {config.num_stages}"


def shared_bytes(config: Config) -> int:
    """Shared memory: stages, a slab of 16 x 64 sums for each of 8 warps, two barriers a stage."""
    return config.num_stages * (sum(size(config)) * ROW_BYTES + 16) + 8 * 16 * 64 * 4


def tiles(config: Config, m: int, n: int) -> int:
    """Tiles of an output of m rows and n columns."""
    rows, columns = size(config)
    return -(-m // rows) * -(-n // columns)


FINISH_STEPS = 3.2
"""Steps that finishing a tile takes the time of; they are not hidden behind products.

A step takes a clock for 32 sums. A sum is written to shared memory and read again, 4 bytes of 128
a clock, and takes some ten instructions of 128 lanes a clock: a tenth of a clock in all.
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
    rows, columns = size(config)
    depth = ROW_BYTES * steps
    landed = rows + columns
    read = rows + rows // 64 * columns  # b once for every 64 rows of a
    multiplied = depth if kind == "int8" else depth / 2
    work = Tiles(
        count=count,
        operations=2.0 * rows * columns * multiplied,
        kind=kind,
        l2_bytes=landed * depth + rows * columns * out_bytes,
        memory_bytes=memory_bytes,
        efficiency=steps / (steps + FINISH_STEPS),
        l1_bytes=(landed + read) * depth,
    )
    return model.seconds(gpu, work)
