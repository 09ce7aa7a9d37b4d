"""Whole networks, forward, weights random; and the demo's three pipelines on real photos."""

from __future__ import annotations

from collections.abc import Sequence

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.model import ModelShape
from cvperf.bench.problems.pipeline import PipelineShape
from cvperf.benchmarks.networks import NETWORKS

_BATCHES = {"cpu": (1, 8), "cuda": (1, 32)}
_PIPELINES = ("mobilenet_v2", "mtcnn", "mask_rcnn")


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """Each network at each batch size, channels-last; one of each kind with ``quick``.

    On a CPU the heavy networks run at batch 1 only.
    """
    networks = [
        ModelShape(
            name=f"{name} n{batch}",
            model=name,
            batch=batch,
            channels=network.channels,
            side=network.size,
            build=network.build,
            quick=(name, batch) in (("mobilenet_v2", 1), ("resnet50", 1)),
        )
        for name, network in NETWORKS.items()
        for batch in _BATCHES[device]
        if batch == 1 or device != "cpu" or not network.heavy
    ]
    # They keep their pictures and boxes on the CPU.
    pipelines = [PipelineShape(name=name, quick=name == "mask_rcnn") for name in _PIPELINES]
    every: list[Shape] = [*networks, *(pipelines if device == "cpu" else [])]
    return [shape for shape in every if shape.quick or not quick]
