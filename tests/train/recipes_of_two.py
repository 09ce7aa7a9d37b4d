"""Recipes carried out by two processes at once, for ``launch.run``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cvperf.train import checkpoint
from cvperf.train.recipe import Data, Model, Optimizer, Processes, Recipe, Schedule
from cvperf.train.run import train

RECIPE = Recipe(
    data=Data(
        "digits", holdout=0.1, mean=[0.3], std=[0.4], prepare=[{"name": "resize", "size": 28}]
    ),
    model=Model("lenet"),
    optimizer=Optimizer("sgd", 0.05, 1e-4, {"momentum": 0.9}),
    schedule=Schedule("cosine", warmup=0.5),
    epochs=4,
    batch_size=32,
    kernels=[],
)
SHORT = replace(RECIPE, epochs=1)  # later, the last bits of one run and another have grown apart
SHARDED = replace(SHORT, processes=Processes(shard=True))
NORMED = replace(SHORT, model=Model("small_cnn", {"widths": [8, 16]}))
WAYS = {
    "fp16": Processes(compress="fp16"),
    "powersgd": Processes(compress="powersgd", rank=2, compress_after=44, factors="fp16"),
    "local": Processes(average_every=4, average_after=44),
}


def weights_in(folder: Path) -> torch.Tensor:
    """float64 [N]: of a run's last checkpoint."""
    state = checkpoint.read(folder / "last.ckpt")["model"]
    return torch.cat([state[name].double().flatten() for name in sorted(state)])


def each_way(folder: Path) -> dict[str, dict[str, float]]:
    """Figures by each way to exchange."""
    found = {
        "plain": train(SHORT, "digits", folder / "plain").figures,
        "sharded": train(SHARDED, "digits", folder / "sharded").figures,
    }
    for name, processes in WAYS.items():
        recipe = replace(RECIPE, processes=processes)
        found[name] = train(recipe, "digits", folder / name).figures
    recipe = replace(NORMED, processes=Processes(shard=True))
    found["normed"] = train(recipe, "digits", folder / "normed").figures
    return found


def go_on(folder: Path) -> dict[str, float]:
    """A sharded run of two epochs, of which the folder's checkpoint has one."""
    return train(replace(SHARDED, epochs=2), "digits", folder).figures


def again_without_moments(folder: Path) -> bool:
    """Whether a sharded run whose optimiser keeps nothing is what its checkpoint makes of it."""
    recipe = replace(SHARDED, optimizer=Optimizer("sgd", 0.05))
    first, again = (train(recipe, "digits", folder).figures for _ in range(2))
    return first == again
