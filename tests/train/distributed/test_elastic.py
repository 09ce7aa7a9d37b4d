"""A worker that is killed costs the steps since the checkpoint, and nothing else."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from cvperf.train import catalogue, checkpoint
from cvperf.train.distributed import launch
from cvperf.train.recipe import Data, Model, Optimizer, Recipe
from cvperf.train.run import train

import toy_training  # isort: skip
from subprocesses import MARK, TORCHRUN, finish, kill_with, start  # isort: skip

OPTIONS = ("--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1")
# Without this, workers of the restart read addresses of the killed ones from the agent's store and
# may wait for them for minutes (torch 2.14).
FRESH = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
DIE_AT = 7  # in the second epoch; the newest checkpoint is of step 6


def test_a_run_whose_worker_was_killed_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path,
) -> None:
    weights = tmp_path / "weights.pt"
    script = (toy_training.__file__, str(tmp_path / "killed"), str(weights), str(DIE_AT))
    (printed,) = finish([start([*TORCHRUN, *OPTIONS, *script], **FRESH)], timeout_s=90)
    assert f"killed before step {DIE_AT}" in printed
    assert "started at step 6, restart 1" in printed

    undisturbed = launch.run(toy_training.train, 2, tmp_path / "undisturbed")
    found = torch.load(weights)
    assert all(torch.equal(a, b) for a, b in zip(found, undisturbed[0], strict=True))


RECIPE = Recipe(
    data=Data("digits", holdout=0.1),
    model=Model("small_cnn", {"widths": [8, 16]}),
    optimizer=Optimizer("sgd", 0.05, 1e-4, {"momentum": 0.9}),
    epochs=4,
    batch_size=32,
    checkpoint_minutes=0,  # after each step
)


def trained(folder: Path) -> dict[str, float]:
    return train(RECIPE, "digits", folder).figures


def test_so_does_a_recipe_whose_worker_is_killed(tmp_path: Path) -> None:
    recipe, folder = tmp_path / "digits.yaml", tmp_path / "killed"
    recipe.write_text(catalogue.to_yaml(RECIPE))
    command = ("-m", "cvperf", "train", str(recipe), "--folder", str(folder))
    running = start([*TORCHRUN, *OPTIONS, *command], **FRESH)
    deadline = time.monotonic() + 60
    while not (folder / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert kill_with(MARK, "RANK=1", "TORCHELASTIC_RESTART_COUNT=0") == 1
    (printed,) = finish([running], timeout_s=90)

    (undisturbed, _) = launch.run(trained, 2, tmp_path / "undisturbed", timeout_s=90)
    ends = [checkpoint.read(tmp_path / name / "last.ckpt") for name in ("killed", "undisturbed")]
    killed, whole = (end["model"] for end in ends)
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    assert f"{folder} goes on after step" in printed
    (line,) = (text for text in printed.splitlines() if text.startswith("{"))
    assert json.loads(line)["accuracy"] == undisturbed["accuracy"]
