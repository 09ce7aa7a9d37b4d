"""Tiles of bins x channels: their configurations, and how long they should take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from cvperf.backends.gpu.configs import Config, Space, bucket
from cvperf.backends.gpu.machine import machine
from cvperf.backends.gpu.model import Architecture, Tiles, roofline, seconds
from cvperf.backends.registry import layout_of
from cvperf.backends.triton.configs import config_for

TAP_INSTRUCTIONS = 17
"""Beside each value's: addresses, weights, masks and the load (counted in what compiles)."""
BOX_PIXELS = 28 * 28
"""What a box is taken to cover on its map; a pyramid's level gives it 14 to 28 each way."""


def _config(rows: int, channels: int, warps: int) -> Config:
    return Config.of(warps, 1, BLOCK_ROWS=rows, BLOCK_CHANNELS=channels)


# By what a thread loads at a time: 8 channels of half types, 4 of float32, or 1 pixel of a plane.
# A tile of half types that is turned as it is stored takes more registers: half as wide.
_SHIPPED = {
    "half": _config(64, 64, 8),
    "half, turned": _config(64, 32, 8),
    "float32": _config(64, 32, 8),
    "planes": _config(64, 16, 8),
}
_MORE = (
    *(_config(32, 64, 4), _config(64, 32, 4), _config(32, 32, 4)),
    _config(16, 128, 4),
)
SPACE = Space(
    "roi_align",
    shipped={80: _SHIPPED, 90: _SHIPPED, 100: _SHIPPED},
    # A tile may pass shared memory on its way out, half of it at a time.
    shared_bytes=lambda config: int(4 * config["BLOCK_ROWS"] * config["BLOCK_CHANNELS"]),
    more={80: _MORE, 90: _MORE, 100: _MORE},
)


def run_rows(
    what: str,
    maps: Sequence[Tensor],
    output: Tensor,
    channels_last: bool,
    taps: int,
    run: Callable[[Config, tuple[int]], Any],
) -> None:
    """Calls ``run`` with the configuration for this call and its grid.

    Args:
        what: names the kernel and its settings where a measurement is kept.
        maps: that are read, in channels last or not.
        output: [K, C, height, width].
        channels_last: whether the maps are.
        taps: pixels that a bin reads, as far as it is known.
    """
    count, channels, height, width = output.shape
    rows = count * height * width
    size = output.element_size()
    kind = "half" if size == 2 else "float32"
    if not channels_last:
        kind = "planes"
    elif size == 2 and layout_of(output) != "channels_last":
        kind = "half, turned"
    gpu = machine(output.device)
    map_values = sum(each.numel() for each in maps)

    def with_grid(config: Config) -> None:
        tiles = math.ceil(rows / config["BLOCK_ROWS"])
        run(config, (tiles * math.ceil(channels / config["BLOCK_CHANNELS"]),))

    def predict(config: Config) -> float:
        return predicted(gpu, config, rows, channels, map_values, size, kind, taps)

    call = f"{what} {bucket(rows, channels)} {output.dtype} {kind}"
    with_grid(config_for(SPACE, kind, call, gpu, predict, with_grid))


def predicted(
    gpu: Architecture,
    config: Config,
    rows: int,
    channels: int,
    map_values: int,
    value_bytes: int,
    kind: str,
    taps: int = 16,
    each_value: int = 2,
    stored_bytes: int | None = None,
) -> float:
    """Seconds by the analytical model.

    ``each_value``: instructions for a value of a tap. ``stored_bytes``: of a value that is stored,
    ``value_bytes`` unless given. A bin's taps are partly those of its neighbours: L1 is taken to
    serve 7 of 16. A load of planes moves a sector of 32 bytes for every second value.
    """
    tile_rows, tile_channels = config["BLOCK_ROWS"], config["BLOCK_CHANNELS"]
    values = tile_rows * tile_channels
    vector = 1 if kind == "planes" else 16 // value_bytes
    instructions = values / vector / 32 * taps * (each_value * vector + TAP_INSTRUCTIONS)
    stored_bytes = stored_bytes or value_bytes
    fetched = 16 if kind == "planes" else value_bytes
    tiles = Tiles(
        count=math.ceil(rows / tile_rows) * math.ceil(channels / tile_channels),
        operations=instructions,
        kind="issue",
        l2_bytes=values * (taps * 9 / 16 * fetched + stored_bytes),
        memory_bytes=map_values * value_bytes + rows * channels * stored_bytes,
        blocks=max(1, 16 // config.num_warps),
        efficiency=0.8,
    )
    return seconds(gpu, tiles, launches=2)


def predicted_share(
    gpu: Architecture,
    boxes: int,
    bins: int,
    channels: int,
    pixels: int,
    value_bytes: int,
    kind: str,
    *,
    taps: int = 16,
    each_value: int = 2,
    stored_bytes: int | None = None,
    before: float = 0.0,
) -> float:
    """Share of the roofline that the shipped configuration should reach.

    The roofline is memory's: the pixels under the boxes, each once, and what is stored. Issuing the
    taps' instructions takes longer, or as long; with few boxes, launches and ``before`` do.

    Args:
        gpu: where.
        boxes: of ``BOX_PIXELS`` each.
        bins: of a box.
        channels: of the maps.
        pixels: of all maps.
        value_bytes: of a value of the maps.
        kind: of ``SPACE``.
        taps: pixels that a bin reads; 16: 2 x 2 samples.
        each_value: as for ``predicted``.
        stored_bytes: as for ``predicted``.
        before: seconds of other kernels that run first, with their launches.
    """
    rows, read = boxes * bins, min(pixels, boxes * BOX_PIXELS) * channels
    least_bytes = read * value_bytes + rows * channels * (stored_bytes or value_bytes)
    config = SPACE.default(gpu, kind)
    values = (rows, channels, read, value_bytes, kind, taps, each_value, stored_bytes)
    return roofline(gpu, 0.0, "float32", least_bytes) / (before + predicted(gpu, config, *values))
