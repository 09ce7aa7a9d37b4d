"""A recipe of detection carried out by two processes at once, for ``launch.run``."""

from __future__ import annotations

from pathlib import Path

from cvperf.data.sets import SETS
from cvperf.train.recipe import Data, Model, Optimizer, Recipe, Watch
from cvperf.train.run import train
from tests.train.detection.blocks import Blocks

RECIPE = Recipe(
    task="detection",
    data=Data("blocks", {"count": 8}),
    model=Model("mask-rcnn"),
    optimizer=Optimizer("adamw", 1e-3),
    watch=Watch("ap50"),
    epochs=1,
    batch_size=4,
    kernels=[],
)


def detected(folder: Path) -> dict[str, float]:
    """Its figures."""
    SETS["blocks"] = Blocks
    return train(RECIPE, "blocks", folder).figures
