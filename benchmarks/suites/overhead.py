"""Calls so small that what is measured is the way to the kernel: checks, dispatch, allocation."""

from __future__ import annotations

from collections.abc import Sequence

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import ConvolutionShape
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.problems.nms import NmsShape
from cvperf.bench.problems.roi_align import RoiAlignShape

# Libraries that run a graph have no call of their own to compare.
_PEERS = ("torch", "torchvision", "cvperf drop-in")


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """One tiny call an op; ``quick`` changes nothing, it takes seconds."""
    return (
        NmsShape(name="10 boxes", boxes=10, arrangement="uniform", peers=_PEERS),
        RoiAlignShape(
            name="1 box 1x1",
            n=1,
            c=8,
            h=8,
            w=8,
            boxes=1,
            output_size=(1, 1),
            spatial_scale=0.25,
            box_side=(8.0, 16.0),
            peers=_PEERS,
        ),
        ConvolutionShape(name="1x1 8-8 4x4", n=1, c=8, h=4, w=4, o=8, kernel=(1, 1), peers=_PEERS),
        Int8GemmShape(name="32x16x16", m=32, n=16, k=16, peers=_PEERS),
    )
