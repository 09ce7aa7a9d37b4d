"""What kernels on ``kernels/cuda/mainloop.cuh`` share: their memory, how fast they multiply."""

from __future__ import annotations

from cvperf.backends.cuda import hopper
from cvperf.backends.gpu.configs import Config

# mma.sync against the rate of the architecture's own instruction: wgmma, tcgen05. Published
# microbenchmarks have 62 % on an H100; for a B200 it is a guess.
MMA_SYNC = {80: 1.0, 90: 0.62, 100: 0.3}


def shared_bytes(itemsize: int, config: Config) -> int:
    """Shared memory: the stages of both factors; afterwards two slabs of the tile's sums."""
    if hopper.is_tile(config):
        return hopper.shared_bytes(config)
    stages = config.num_stages * (config["BM"] + config["BN"]) * config["BK"] * itemsize
    slabs = 1 if config["BM"] == 16 * config["WARPS_M"] else 2
    return int(max(stages, slabs * 16 * config["WARPS_M"] * (config["BN"] + 8) * 4))
