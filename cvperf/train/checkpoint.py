"""A run on disk: written aside and renamed, read without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from cvperf import files
from cvperf.errors import ArgumentError
from cvperf.train.loop import Run

VERSION = 2
_PARTS = ("schedule", "average", "best")
_NUMBERS = ("epoch", "batch", "step", "parts", "losses", "history")


def state_of(run: Run, recipe: str) -> dict[str, Any]:
    """All of a run, for :func:`write`; of a model in parts, all processes call this together.

    Model and optimiser go by the names of parameters, whole and on the CPU, so that any number of
    processes can go on, sharded or not.

    Args:
        run: the run.
        recipe: the text of its recipe, which is kept with it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model, optimizer = get_state_dict(unwrapped(run.model), _plain(run), options=options)
    state = {"version": VERSION, "recipe": recipe, "model": model, "optimizer": optimizer}
    for name in _PARTS:
        part = getattr(run, name)
        state[name] = None if part is None else part.state_dict()
    return {**state, **{name: getattr(run, name) for name in _NUMBERS}}


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write what :func:`state_of` gave; killed meanwhile, it leaves the file of before."""
    with files.aside(path) as written:
        torch.save(state, written)


def read(path: Path) -> Mapping[str, Any]:
    """What :func:`save` wrote.

    Raises:
        ArgumentError: it is none, or of a later version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError) as error:
        raise ArgumentError(f"{path} is no checkpoint of cvperf: {error}") from error
    if not isinstance(state, dict) or "version" not in state:
        raise ArgumentError(f"{path} is no checkpoint of cvperf")
    if state["version"] > VERSION:
        raise ArgumentError(f"{path} is of version {state['version']}; this cvperf reads {VERSION}")
    if state["version"] == 1:  # which had the sum of one loss, without its name
        return {**state, "losses": {"loss": state["losses"]}}
    return state


def restore(run: Run, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's state into a fresh run of the same recipe."""
    model, moments = unwrapped(run.model), state["optimizer"]
    _set_weights(model, state["model"])
    # Nothing is to be shared out of an optimiser without moments, which torch takes for an error.
    shared = _sharded(model) and any(map(bool, moments["state"].values()))
    options = StateDictOptions(full_state_dict=shared)
    set_optimizer_state_dict(model, _plain(run), moments, options=options)
    for name in _PARTS:
        part = getattr(run, name)
        if part is not None:
            part.load_state_dict(state[name])
    for name in _NUMBERS:
        setattr(run, name, state[name])


def restore_weights(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a model: their average, where the run kept one."""
    average = state["average"]
    weights = state["model"] if average is None else average["module"]
    _set_weights(unwrapped(model), weights)


def _set_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    options = StateDictOptions(full_state_dict=_sharded(model))
    set_model_state_dict(model, dict(weights), options=options)


def _sharded(model: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _plain(run: Run) -> torch.optim.Optimizer:
    """The optimiser that Fabric wraps."""
    return getattr(run.optimizer, "optimizer", run.optimizer)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that Fabric and DistributedDataParallel wrap."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model
