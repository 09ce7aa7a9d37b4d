"""A training step of Mask R-CNN: our model on our kernels against torchvision's, same weights.

``python -m cvperf.benchmarks.detector_step`` takes composed scenes of 256x256 pixels, four a step,
and ResNet-50 with a feature pyramid; weights are random, batch norm learns, one fused SGD step
ends each. Both draw their samples after the same seed, so that the losses of the first step must
be equal; later ones part, because a proposal more or less moves all draws after it.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

import cvperf
from cvperf.bench.contender import Contender
from cvperf.bench.report.paired import ratio
from cvperf.bench.report.text import with_interval
from cvperf.bench.timing import Plan, Timing, measure
from cvperf.benchmarks.detectors import spread
from cvperf.data.sets import composed
from cvperf.models.detection import create_detector
from cvperf.train.detection.labels import to_floats, to_model

TOLERANCE = 1e-3
"""Relative, of each loss: batch norm over a small batch makes much of a rounding."""
_CLASSES = 11  # with the background

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
Losses = dict[str, float]


def scenes(images: int, side: int) -> Batch:
    """Images, 0 to 1, and targets whose labels count from 1."""
    chosen = composed.load("train", count=images, size=side, kind="detection", items=(3, 8))
    pictures, targets = zip(*(chosen[index] for index in range(images)), strict=True)
    return list(to_floats(pictures)), to_model(targets)


def models(side: int) -> tuple[Any, nn.Module]:
    """torchvision's, and ours with the same weights."""
    torch.manual_seed(0)
    size = {"min_size": side, "max_size": side}
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=_CLASSES, **size
    )
    theirs.transform.torch_choice = lambda sizes: sizes[-1]  # else one of one is drawn
    ours = create_detector("mask-rcnn", _CLASSES, backbone="resnet50", resize=size)
    ours.load_state_dict(theirs.state_dict())
    return theirs.train(), ours.train()


def stepper(model: nn.Module, batch: Batch) -> Callable[[], Losses]:
    """A step of it; the answer is its losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    seeds = itertools.count()

    def step() -> Losses:
        torch.manual_seed(next(seeds))
        optimizer.zero_grad()
        losses: dict[str, Tensor] = model(*batch)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    return step


def furthest(found: Losses, wanted: Losses) -> float:
    """The largest relative difference between two steps' losses."""
    assert found.keys() == wanted.keys()
    return max(abs(found[name] - loss) / abs(loss) for name, loss in wanted.items())


def race(images: int, side: int, rounds: int) -> tuple[list[Timing], float]:
    """Times of torchvision's model in its own layout, in channels-last, and of ours; in turn.

    Also how far our losses are from torchvision's in the first step.
    """
    theirs, ours = models(side)
    channels_last = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
    batch = scenes(images, side)
    contenders = [
        Contender(stepper(theirs, batch)),
        Contender(stepper(channels_last, batch)),
        Contender(stepper(ours, batch), context=cvperf.use),
    ]
    as_it_is, _, first = (each.once() for each in contenders)
    plan = Plan(math.inf, sample_s=0.0, min_samples=rounds, max_samples=rounds)
    return measure(contenders, plan), furthest(first, as_it_is)


def table(timings: Sequence[Timing], apart: float, title: str) -> Table:
    """Medians with the 20th and 80th percentile, and torchvision's over ours."""
    found = Table("contender", "ms", "over ours", title=title)
    names = ("torchvision", "torchvision, channels-last", "cvperf")
    for name, timing in zip(names, timings, strict=True):
        over = ratio(timing.samples_ms, timings[-1].samples_ms)
        found.add_row(name, spread(timing), with_interval(over))
    found.caption = f"losses of the first step within {apart:.1e}"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if the losses were not equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--rounds", type=int, default=11, help="steps of each contender")
    parser.add_argument("--threads", type=int, default=2)
    options: Any = parser.parse_args(arguments)
    for name in ("images", "side", "rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    torch.set_num_threads(options.threads)
    timings, apart = race(options.images, options.side, options.rounds)
    title = f"Mask R-CNN, a step of {options.images} at {options.side}x{options.side}, "
    title += f"{options.threads} threads, weights random"
    Console().print(table(timings, apart, title))
    return 0 if apart <= TOLERANCE and math.isfinite(apart) else 1


if __name__ == "__main__":
    sys.exit(main())
