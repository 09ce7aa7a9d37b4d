"""Checkpoints that every process writes its part of, for any number of processes to read.

The format is torch's distributed checkpoint (DCP). A checkpoint is a folder ``step-N`` that appears
whole or not at all: it is written under another name and renamed, and only then are older ones
removed. The folder must be on a file system that all processes share.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import save as save_state
from torch.distributed.checkpoint.stateful import Stateful
from torch.optim import Optimizer

from cvperf.errors import ArgumentError, check_count


class Training(Stateful):
    """A model and its optimizer as one entry of a checkpoint, by parameter names.

    So it fits another number of processes, and another way to split: plain,
    ``DistributedDataParallel`` or ``fully_shard``.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state_dict["model"],
            optim_state_dict=state_dict["optimizer"],
        )


def save(
    folder: str | Path,
    step: int,
    state: Mapping[str, Any],
    *,
    keep: int = 1,
    group: dist.ProcessGroup | None = None,
) -> Path:
    """Write a checkpoint; all processes of the group call this together.

    Args:
        folder: where checkpoints are; made if it does not exist.
        step: the steps done; names the checkpoint.
        state: tensors, numbers, strings, objects with ``state_dict`` and ``load_state_dict`` such
            as :class:`Training`, and mappings of these. What is the same in all processes is
            written once; a sharded tensor by each its part.
        keep: how many of the newest to keep, this one included.
        group: the processes; all of them if None.

    Returns:
        The checkpoint's folder.

    Raises:
        ArgumentError: ``keep`` is less than 1 or ``step`` less than 0.
        FileExistsError: there is a checkpoint of this step or a later one: of another run, which is
            not overwritten.
    """
    check_count("step", step)
    if keep < 1:
        raise ArgumentError(f"keep must be 1 or more, got {keep}")
    folder = Path(folder)
    final, written = folder / f"step-{step}", folder / f".step-{step}"
    if (newest := max(_checkpoints(folder), default=-1)) >= step:
        raise FileExistsError(
            f"{folder} has a checkpoint of step {newest}, and step {step} was to be saved: resume "
            "from it with load, or choose another folder"
        )
    first = not dist.is_initialized() or dist.get_rank(group) == 0
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".step-*"):  # by a run that was killed
            shutil.rmtree(left)
    _wait_for_all(group)
    with _no_warning_when_alone():
        save_state(dict(state), checkpoint_id=written, process_group=group)
    if first:
        written.rename(final)
        for old in _checkpoints(folder)[:-keep]:
            shutil.rmtree(folder / f"step-{old}")
    _wait_for_all(group)
    return final


def load(
    folder: str | Path, state: dict[str, Any], *, group: dist.ProcessGroup | None = None
) -> int | None:
    """Read the newest checkpoint; all processes of the group call this together.

    Args:
        folder: where checkpoints are.
        state: as it was given to :func:`save`. Tensors and objects are filled in place, numbers and
            strings replaced in the mapping. Sharded tensors may be split otherwise than when saved.
        group: the processes; all of them if None.

    Returns:
        Its step, or None if there is none yet (``state`` is then as before).
    """
    steps = _checkpoints(Path(folder))
    if not steps:
        return None
    newest = Path(folder) / f"step-{steps[-1]}"
    with _no_warning_when_alone():
        load_state(state, checkpoint_id=newest, process_group=group)
    return steps[-1]


def _checkpoints(folder: Path) -> list[int]:
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-\d+", name))


def _wait_for_all(group: dist.ProcessGroup | None) -> None:
    if dist.is_initialized():
        dist.barrier(group)


@contextmanager
def _no_warning_when_alone() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
