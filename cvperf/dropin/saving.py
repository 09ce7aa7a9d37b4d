"""``cvperf.save`` and ``cvperf.load``: an optimised model as a file.

The file is one of safetensors: the weights after fusing and quantising, equal ones once, and in its
metadata a description of the graphs in JSON. Kernels' own forms of weights are not in it, nor is
what depends on a size: the loading machine makes these at the first call of each size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cvperf import engine
from cvperf.dropin.configs import FusionConfig
from cvperf.dropin.optimize import OptimizedModel
from cvperf.engine.saved import SavedWeights, describe_captured, read_captured
from cvperf.errors import ArgumentError, describe
from cvperf.files import aside

VERSION = 2
"""Of the description and of weights as they are packed; a change that older versions would read
wrongly makes a new one. Since 2 packed INT8 weights end with their widest pair."""

_KEY = "cvperf"  # of the metadata

_DAMAGED = (LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError)
"""What reading a description raises that somebody changed."""


def save(model: OptimizedModel, path: str | os.PathLike[str]) -> None:
    """Write an optimised model to a file that needs nothing of the model to be loaded.

    What is written are the graphs that were traced so far, and their weights: call the model with
    the sizes that it will be asked for first, or with two sizes for a graph in which the sizes that
    differ are open. Nothing in the file depends on this machine's instruction set. The file
    appears whole or not at all; an old one stays until then.

    Args:
        model: what :func:`cvperf.optimize` or :func:`load` returned.
        path: of the file, usually ending in ``.safetensors``; its folder exists.

    Raises:
        ArgumentError: the model has not been traced yet, was split and runs Python between its
            parts, changes its weights when it is called, or holds what a file cannot.
        TypeError: ``model`` is no optimised model.

    Example:
        >>> fast = cvperf.optimize(model.eval(), example_inputs=image)
        >>> cvperf.save(fast, "model.safetensors")
    """
    if not isinstance(model, OptimizedModel):
        raise TypeError(
            f"model must be what cvperf.optimize returned, got {type(model).__name__}. Call "
            "cvperf.optimize(model, example_inputs=...) first"
        )
    description, tensors = _described(model)
    try:
        with aside(Path(path)) as written:
            save_file(tensors, written, {_KEY: description})
    except SafetensorError as error:
        raise ArgumentError(f"path {os.fspath(path)!r} cannot be written: {error}") from error


def load(path: str | os.PathLike[str]) -> LoadedModel:
    """The model that :func:`save` wrote, without its Python classes.

    The file is data: its operators are looked up among those of torch, torchvision and cvperf, and
    nothing in it is run or unpickled. It was not made to be safe to run on sizes that somebody
    forged: load files from those whose models you would use.

    Args:
        path: of the file.

    Returns:
        A :class:`LoadedModel`: the same call, the same answers bit for bit on the same machine, for
        the sizes that a saved graph takes.

    Raises:
        ArgumentError: it is no such file, of another version, damaged, or calls an operator
            that is unknown here.
        FileNotFoundError: there is none.
        ImportError: it calls an operator of torchvision, which is not installed.

    Example:
        >>> fast = cvperf.load("model.safetensors")
        >>> logits = fast(image)
    """
    name = os.fspath(path)
    try:
        with safe_open(name, framework="pt") as file:
            description = (file.metadata() or {}).get(_KEY)
            if description is None:
                raise ArgumentError(f"path {name!r} was not written by cvperf.save")
            # A copy: aligned as torch aligns, and not of a file that may be written anew.
            return _read(description, lambda key: file.get_tensor(key).clone(), f"path {name!r}")
    except SafetensorError as error:
        raise ArgumentError(
            f"path {name!r} is no file of cvperf.save, or not a whole one: {error}"
        ) from error


class LoadedModel(OptimizedModel):
    """What :func:`load` returns: an optimised model whose graphs come from a file.

    It traces nothing: a call that no graph takes is an error. It has no ``original``.
    """

    def __init__(
        self, kind: str, config: FusionConfig, captured: Sequence[engine.Captured]
    ) -> None:
        super().__init__(nn.Module(), config)
        del self.__dict__["original"]
        self._kind_of_original = kind
        self._captured.extend(captured)

    def __reduce__(self) -> tuple[Any, ...]:
        description, tensors = _described(self)
        return _from_tensors, (description, tensors)

    def __getattr__(self, name: str) -> Any:
        return nn.Module.__getattr__(self, name)

    def _kind(self) -> str:
        return self._kind_of_original

    def _trace(self, args: Any, kwargs: Mapping[str, Any], tensors: Sequence[Tensor]) -> NoReturn:
        taken = "; ".join(str(each.conditions()) for each in self._captured)
        raise ArgumentError(
            f"no graph of this loaded model takes {', '.join(map(describe, tensors))}; they take: "
            f"{taken}. Before cvperf.save, call the optimised model with such an input, or with "
            "two that differ in a size to leave that open"
        )

    def _give_up(self, why: str) -> NoReturn:
        raise ArgumentError(f"the loaded model has no plan for such a call: {why}")


def _described(model: OptimizedModel) -> tuple[str, dict[str, Tensor]]:
    """The description as text, and the tensors of it."""
    with model._lock:
        _check(model)
        weights = SavedWeights()
        graphs = []
        for captured in model._captured:
            model._quantise(captured)
            try:
                graphs.append(describe_captured(captured, weights))
            except ArgumentError as error:
                raise ArgumentError(f"model cannot be saved: {error}") from error
    description = {
        "version": VERSION,
        "written by": {"cvperf": version("cvperf"), "torch": torch.__version__},
        "model": model._kind(),
        "plans": model._config.plans,
        "graphs": graphs,
    }
    return json.dumps(description, allow_nan=False), weights.tensors


def _check(model: OptimizedModel) -> None:
    if model._split is not None:
        parts = [part.name for part in model.explain().parts if part.plans]
        hint = f": {', '.join(parts)}" if parts else ""
        raise ArgumentError(
            f"model runs Python between its parts and cannot be saved, because {model._why}. "
            f"Optimise and save a part by itself{hint}"
        )
    if not model._captured:
        raise ArgumentError(
            "model has not been traced yet: call it once, or give example_inputs to cvperf.optimize"
        )


def _from_tensors(description: str, tensors: Mapping[str, Tensor]) -> LoadedModel:
    return _read(description, tensors.__getitem__, "copy")


def _read(description: str, fetch: Callable[[str], Tensor], source: str) -> LoadedModel:
    try:
        found = json.loads(description)
        if found["version"] != VERSION:
            raise ArgumentError(
                f"its version is {found['version']}, and this cvperf reads {VERSION}; it was "
                f"written by cvperf {found['written by']['cvperf']}"
            )
        once = _Once(fetch)
        captured = [read_captured(each, once) for each in found["graphs"]]
        return LoadedModel(str(found["model"]), FusionConfig(plans=found["plans"]), captured)
    except _DAMAGED as error:
        why = str(error) if isinstance(error, ArgumentError) else repr(error)
        raise ArgumentError(f"{source} cannot be loaded: {why}") from error


class _Once:
    """Fetches each tensor once: graphs share them, and so their packed forms."""

    def __init__(self, fetch: Callable[[str], Tensor]) -> None:
        self._fetch = fetch
        self._known: dict[str, Tensor] = {}

    def __call__(self, name: str) -> Tensor:
        if name not in self._known:
            self._known[name] = self._fetch(name)
        return self._known[name]
