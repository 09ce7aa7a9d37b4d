"""NMS in Triton: the configurations of its kernels, and how long they should take."""

from __future__ import annotations

from cvperf.backends.gpu.configs import Config, Space
from cvperf.backends.gpu.model import LAUNCH_S, Architecture, Tiles, seconds

CHUNK = 4096
"""Boxes settled by one launch: each box takes CHUNK / 8 bytes of bits."""
SOLVE = Config.of(4, 1, BLOCK=512, STREAM=16, STAGES=3)
_PAIR = 40.0
"""Float32 operations in whose time a pair is compared: 20 cycles of a lane."""
_SOFT_INSTRUCTIONS = {"linear": 76, "gaussian": 101}
"""For 32 boxes in a step of soft_nms (counted in what compiles)."""
_SOFT_STEP_S = 0.6e-6
"""A step's latency beside: a load, two barriers of the reduction, and a barrier for the scores."""

_SMALL = Config.of(4, 1, COLUMNS=128, WORDS=2)
_LARGE = Config.of(4, 1, COLUMNS=256, WORDS=4)
_MORE = (
    *(Config.of(4, 1, COLUMNS=512, WORDS=4), Config.of(4, 1, COLUMNS=512, WORDS=8)),
    *(Config.of(4, 1, COLUMNS=128, WORDS=1), Config.of(4, 1, COLUMNS=256, WORDS=2)),
)
PAIRS = Space(
    "nms_overlaps",
    {capability: {"small": _SMALL, "large": _LARGE} for capability in (80, 90, 100)},
    lambda config: 4 * config["COLUMNS"],
    dict.fromkeys((80, 90, 100), _MORE),
)


def predicted_share(gpu: Architecture, images: int, count: int, limit: int) -> float:
    """Share of the roofline, which is that of comparing pairs, if half of the boxes are kept."""
    chunk, _ = _chunks(count)
    pairs = images * count * chunk / 2 + _later_pairs(images, count, limit)
    return pairs * _PAIR / gpu.rates["float32"] / predicted_all(gpu, images, count, limit)


def predicted_all(gpu: Architecture, images: int, count: int, limit: int) -> float:
    """Seconds of a whole call, if half of the boxes are kept.

    Besides comparing, one multiprocessor an image settles: it reads each chunk's words at 64 bytes
    a cycle, and takes 1.2 microseconds a block; and the sort takes ten launches.
    """
    pitch = -(-count // SOLVE["BLOCK"]) * SOLVE["BLOCK"]
    chunk, _ = _chunks(count)
    chunks = _chunks_until(count, limit)
    config = PAIRS.default(gpu, kind_of(images, pitch))
    later = _later_pairs(images, count, limit) * _PAIR / gpu.rates["float32"]
    comparing = predicted(gpu, config, images, pitch, chunk) + later
    return comparing + _settling(chunk, chunks) + (12 + 2 * chunks) * LAUNCH_S


def _later_pairs(images: int, count: int, limit: int) -> float:
    """Boxes kept of each chunk against those of the chunks after it."""
    chunk, _ = _chunks(count)
    chunks = _chunks_until(count, limit)
    return images * (chunks - 1) * chunk / 2 * (count - chunk * chunks / 2)


def _chunks_until(count: int, limit: int) -> int:
    """Chunks until so many boxes are kept: later ones end at once."""
    chunk, chunks = _chunks(count)
    return min(chunks, -(-2 * limit // chunk))


def _chunks(count: int) -> tuple[int, int]:
    """Boxes of a chunk, and chunks."""
    chunk = min(CHUNK, -(-count // SOLVE["BLOCK"]) * SOLVE["BLOCK"])
    return chunk, -(-count // chunk)


def _settling(chunk: int, chunks: int) -> float:
    """Seconds; images settle side by side."""
    return chunks * chunk * (chunk / 16 / 85e9 + 1.2e-6 / SOLVE["BLOCK"])


def predicted_classwise_share(gpu: Architecture, count: int, classes: int) -> float:
    """Share of the roofline of ``classwise``: comparing the pairs of each of some equal classes.

    Bound by latency: two sorts and the gathers between them are some 31 launches, and settling
    takes what it takes for one class (``predicted_share``). A block of boxes is compared with all
    blocks that hold one of its classes.
    """
    pairs = count * count / classes / 2
    config = PAIRS.default(gpu, kind_of(1, count))
    compared = count * (config["COLUMNS"] / 2 + 32 * config["WORDS"] + count / classes)
    rate = gpu.rates["float32"] / _PAIR
    chunk, chunks = _chunks(count)
    return (
        pairs / rate / (compared / rate + _settling(chunk, chunks) + (31 + 2 * chunks) * LAUNCH_S)
    )


def predicted_soft_share(gpu: Architecture, count: int, method: str) -> float:
    """Share of the roofline of ``selected_softly`` where every box is selected.

    The roofline is comparing each selected box with those that are left, on the whole GPU. But each
    step needs the one before, so one multiprocessor does it all, and a step's latency bounds it:
    the winner's corners, the barriers of the reduction, and the write of the scores; besides, all
    boxes are compared in each step.
    """
    rate = 32 * gpu.rates["issue"] / _SOFT_INSTRUCTIONS[method]
    a_step = _SOFT_STEP_S + count / (rate / gpu.processors)
    return count * count / 2 / rate / (count * a_step + LAUNCH_S)


def kind_of(images: int, pitch: int) -> str:
    return "small" if images * pitch <= 4096 else "large"


def predicted(gpu: Architecture, config: Config, images: int, pitch: int, chunk: int) -> float:
    """Seconds to compare the boxes of each chunk with one another."""
    columns, earlier = config["COLUMNS"], 32 * config["WORDS"]
    square = chunk // columns * (chunk // earlier)
    halves = square // 2 + max(chunk // columns, chunk // earlier)
    a_thread = columns / (32 * config.num_warps)
    tiles = Tiles(
        count=images * -(-pitch // chunk) * halves,
        operations=_PAIR * columns * earlier,
        kind="float32",
        l2_bytes=24.0 * (columns + earlier) + 4 * columns * config["WORDS"],
        memory_bytes=images * pitch * (24 + chunk / 8),
        blocks=6 if a_thread <= 2 else 3,  # by registers
        efficiency=1 / (1 + 0.3 / a_thread),  # loads of the earlier boxes are shared by a thread's
    )
    return seconds(gpu, tiles)
