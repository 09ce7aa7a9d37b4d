"""Whole networks, forward, weights random, in float32 and INT8; and the demo's three pipelines on
real photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.model import ModelShape
from cvperf.bench.problems.model_int8 import ModelInt8Shape
from cvperf.bench.problems.pipeline import PipelineShape
from cvperf.benchmarks.networks import WHOLE_NETWORKS, Network

_BATCHES = {"cpu": (1, 8), "cuda": (1, 32)}
_INT8 = (
    *(("resnet50", 1), ("resnet50", 8), ("mobilenet_v2", 1), ("efficientnet_b0", 1)),
    *(("vgg16", 1), ("densenet121", 1), ("unet", 1)),
)
_PIPELINES = ("mobilenet_v2", "mtcnn", "mask_rcnn")


def shapes(quick: bool, device: str) -> Sequence[Shape]:
    """Each network at each batch size, channels-last; one of each kind with ``quick``.

    On a CPU the heavy networks run at batch 1 only.
    """
    networks = [
        ModelShape(
            name=f"{name} n{batch}",
            quick=(name, batch) in (("mobilenet_v2", 1), ("resnet50", 1)),
            **_numbers(name, network, batch),
        )
        for name, network in WHOLE_NETWORKS.items()
        for batch in _BATCHES[device]
        if batch == 1 or device != "cpu" or not network.heavy
    ]
    if device != "cpu":
        return [shape for shape in networks if shape.quick or not quick]
    integers = [
        ModelInt8Shape(name=f"{name} n{batch} int8", **_numbers(name, WHOLE_NETWORKS[name], batch))
        for name, batch in _INT8
    ]
    # They keep their pictures and boxes on the CPU.
    pipelines = [PipelineShape(name=name, quick=name == "mask_rcnn") for name in _PIPELINES]
    every: list[Shape] = [*networks, *integers, *pipelines]
    return [shape for shape in every if shape.quick or not quick]


def _numbers(name: str, network: Network, batch: int) -> dict[str, Any]:
    return {
        "model": name,
        "batch": batch,
        "channels": network.channels,
        "side": network.size,
        "build": network.build,
    }
