"""cvperf by torch's and torchvision's own names: what the way through the dispatcher costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.peers import torch as eager
from cvperf.bench.peers import torchvision as detection
from cvperf.bench.peers.base import Maker, Peer
from cvperf.bench.peers.ours import drop_in
from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.roi_align import RoiAlign


def roi_align(problem: RoiAlign) -> Contender:
    """In the shape's layout, which cvperf takes as it is."""
    p = problem
    import torchvision  # noqa: F401  (registers its ops)

    run = torch.ops.torchvision.roi_align.default
    return Contender(lambda: run(p.features, p.boxes, *p.arguments))


def _served(maker: Maker) -> Maker:
    """The call, inside ``cvperf.use()``."""

    def make(problem: Any) -> Contender:
        note = "in cvperf.use(): where the crossover says so, the original runs"
        return replace(maker(problem), context=drop_in, note=note)

    return make


NAME = "cvperf drop-in"


def _tells(shape: Shape) -> bool:
    """Where it is another thing than our op: the overhead, and convolutions as most models call
    them, whose activation it cannot fuse. cvperf.profiler's advisor reads these rows."""
    planar = shape.op == "conv2d" and shape.layout == "contiguous" and shape.dtype == "float32"
    return NAME in shape.peers or planar


PEER = Peer(
    NAME,
    ("cvperf", "torchvision"),
    {
        "conv2d": _served(eager.conv2d),
        "roi_align": _served(roi_align),
        "nms": _served(detection.nms),
    },
    unasked=_tells,
)
