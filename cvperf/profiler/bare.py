"""The target with NVTX ranges around its layers and nothing else: for ncu and nsys.

They cannot share a GPU with torch.profiler. Started as
``python -m cvperf.profiler.bare TARGET DEVICE BATCH SIZE [ARGUMENTS]``; SIZE 0 is the model's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from cvperf.profiler.layers import Layers, ranges
from cvperf.profiler.target import resolve

RANGE = "cvperf"
"""The NVTX range around the run that is to be measured."""


def main(words: Sequence[str]) -> None:
    """Warm the target up if it may be run again, then run it in the NVTX range RANGE."""
    text, device, batch, size, *arguments = words
    target = resolve(
        text,
        arguments=arguments,
        device=device,
        batch=int(batch),
        image_size=int(size) or None,
    )
    if target.repeatable:
        target.run()
    with ranges(Layers()), torch.cuda.nvtx.range(RANGE):
        target.run()
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1:])
