"""The learning rate over a run: a linear warm-up, then a curve or steps."""

from __future__ import annotations

import math
from bisect import bisect_right

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from cvperf.errors import ArgumentError
from cvperf.train.recipe import Schedule

CURVES = ("constant", "cosine", "linear", "step", "plateau")


def factor(config: Schedule, epoch: float, epochs: int) -> float:
    """Of the learning rate after ``epoch`` epochs, a fraction within one.

    Sources: cosine, Loshchilov and Hutter, "SGDR", ICLR 2017; warm-up, Goyal et al., "Accurate,
    Large Minibatch SGD", 2017.
    """
    if epoch < config.warmup:
        return epoch / config.warmup
    if config.name in ("constant", "plateau"):
        return 1.0
    if config.name == "step":
        return config.factor ** bisect_right(config.milestones, epoch)
    done = min(1.0, (epoch - config.warmup) / max(epochs - config.warmup, 1e-9))
    left = (1 + math.cos(math.pi * done)) / 2 if config.name == "cosine" else 1 - done
    return config.last + (1 - config.last) * left


def by_step(config: Schedule, optimizer: Optimizer, steps: int, epochs: int) -> LRScheduler:
    """The schedule that is stepped after each step; ``steps`` of them are an epoch.

    Raises:
        ArgumentError: no curve has this name.
    """
    if config.name not in CURVES:
        raise ArgumentError(f"unknown schedule {config.name!r}; known: {', '.join(CURVES)}")
    # The first step is not lost to a rate of zero: a step is counted as done.
    return LambdaLR(optimizer, lambda step: factor(config, (step + 1) / steps, epochs))


def after_epoch(config: Schedule, schedule: LRScheduler, epochs_without_better: int) -> None:
    """Where the curve is ``plateau``: multiply the rates after ``patience`` epochs for nothing."""
    stuck = epochs_without_better and epochs_without_better % config.patience == 0
    if config.name == "plateau" and stuck:
        # What the factor of each step is multiplied with; it is part of the schedule's state.
        schedule.base_lrs = [rate * config.factor for rate in schedule.base_lrs]
