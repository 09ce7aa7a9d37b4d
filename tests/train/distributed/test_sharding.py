"""Models in parts: gradients as of one process, checkpoints that any number of processes read."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.multiprocessing import ProcessExitedException

from cvperf.errors import ArgumentError
from cvperf.train.distributed import checkpoint, launch
from cvperf.train.distributed.sharding import shard

from distributed_toys import furthest, gradients, network, pictures  # isort: skip

BATCH, STEP = 8, 7


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Parameters and what the optimizer keeps of each, whole."""
    found = {name: whole(p) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"{name} {key}"] = whole(value)
    return found


def train_in_parts(folder: Path) -> dict[str, object]:
    model = shard(network(norm=False))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    held = sum(p.to_local().numel() for p in model.parameters())
    half = [part.chunk(2)[dist.get_rank()] for part in pictures(BATCH)]
    found = {name: whole(grad) for name, grad in gradients(model, *half).items()}
    optimizer.step()
    state = {"training": checkpoint.Training(model, optimizer), "epoch": 3}
    checkpoint.save(folder, STEP, state)
    return {"gradients": found, "held": held, "state": state_of(model, optimizer)}


def resume(folder: Path) -> tuple[object, ...]:
    model = network(norm=False)
    with torch.no_grad():
        model[-1].bias.fill_(5.0)
    if dist.is_initialized():
        shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    state = {"training": checkpoint.Training(model, optimizer), "epoch": 0}
    step = checkpoint.load(folder, state)
    return step, state["epoch"], state_of(model, optimizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[dict]:
    return launch.run(train_in_parts, 2, folder)


def test_two_halves_have_the_gradients_of_one_process_with_the_whole_batch(
    runs: list[dict],
) -> None:
    expected = gradients(network(norm=False), *pictures(BATCH))
    for run in runs:
        assert furthest(run["gradients"], expected) < 1e-6


def test_a_process_holds_half_of_the_parameters(runs: list[dict]) -> None:
    total = sum(p.numel() for p in network(norm=False).parameters())
    assert sum(run["held"] for run in runs) == total
    assert max(run["held"] for run in runs) < 0.51 * total


@pytest.mark.parametrize("processes", [1, 3])
def test_a_checkpoint_of_two_processes_is_read_by(
    processes: int, runs: list[dict], folder: Path
) -> None:
    read = [resume(folder)] if processes == 1 else launch.run(resume, processes, folder)
    assert len(read) == processes
    for step, epoch, state in read:
        assert (step, epoch) == (STEP, 3)
        assert state.keys() == runs[0]["state"].keys()
        assert all(torch.equal(state[name], value) for name, value in runs[0]["state"].items())


def die_while_saving(folder: Path) -> None:
    checkpoint.save(folder, 1, {"weights": torch.ones(3)})
    Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    checkpoint.save(folder, 2, {"weights": torch.zeros(3)})


def test_a_run_killed_while_saving_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        launch.run(die_while_saving, 1, tmp_path)
    state = {"weights": torch.zeros(3)}
    assert checkpoint.load(tmp_path, state) == 1
    assert state["weights"].tolist() == [1, 1, 1]
    checkpoint.save(tmp_path, 2, {"weights": torch.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]  # no litter, and 1 is gone


def test_as_many_checkpoints_are_kept_as_asked_for(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        checkpoint.save(tmp_path, step, {"weights": torch.full((2,), step)}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-11"]
    with pytest.raises(FileExistsError, match="has a checkpoint of step 11, and step 4 was to"):
        checkpoint.save(tmp_path, 4, {})


def test_there_may_be_none_yet(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "later", {"weights": torch.zeros(2)}) is None
    with pytest.raises(ArgumentError, match="keep must be 1 or more, got 0"):
        checkpoint.save(tmp_path, 1, {}, keep=0)
