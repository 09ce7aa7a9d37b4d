"""A run on disk: written aside and renamed, read without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvperf import files
from cvperf.errors import ArgumentError
from cvperf.train.loop import Run

VERSION = 1
_PARTS = ("optimizer", "schedule", "average", "best")
_NUMBERS = ("epoch", "batch", "step", "parts", "losses", "history")


def save(path: Path, run: Run, recipe: str) -> None:
    """Write a run; one that is killed while writing leaves the file of before.

    Args:
        path: the file.
        run: with a model whose weights this process has whole.
        recipe: the text of its recipe, which is kept with it.
    """
    state: dict[str, Any] = {"version": VERSION, "recipe": recipe}
    state["model"] = unwrapped(run.model).state_dict()
    for name in _PARTS:
        part = getattr(run, name)
        state[name] = None if part is None else part.state_dict()
    state.update({name: getattr(run, name) for name in _NUMBERS})
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
    return state


def restore(run: Run, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's state into a fresh run of the same recipe."""
    unwrapped(run.model).load_state_dict(state["model"])
    for name in _PARTS:
        part = getattr(run, name)
        if part is not None:
            part.load_state_dict(state[name])
    for name in _NUMBERS:
        setattr(run, name, state[name])


def restore_weights(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a model: their average, where the run kept one."""
    average = state["average"]
    unwrapped(model).load_state_dict(state["model"] if average is None else average["module"])


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that Fabric and DistributedDataParallel wrap."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model
