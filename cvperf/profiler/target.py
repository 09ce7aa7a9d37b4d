"""What ``cvperf profile`` is given: a file, ``module:function``, or the name of a model."""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvperf.profiler import models


class ProfileError(ValueError):
    """What was asked for cannot be done; the message says why, and the way out."""


class TargetError(ProfileError):
    """TARGET names nothing that can be run; the message says what was looked for, and where."""


@dataclass(frozen=True)
class Target:
    """Something to run."""

    name: str
    run: Callable[[], Any]
    repeatable: bool
    """Whether it may be run again: a script may write files, so it is run once."""
    notes: tuple[str, ...] = ()


def resolve(
    text: str,
    *,
    arguments: Sequence[str] = (),
    device: str = "cpu",
    batch: int = 1,
    image_size: int | None = None,
) -> Target:
    """The target that ``text`` names.

    Args:
        text: ``path/to/file.py``, ``module:function``, or the name of a torchvision or timm model.
        arguments: the script's own, for a file.
        device: for a model; files and functions put their tensors where they like.
        batch: images at once, for a model.
        image_size: pixels on a side, for a model; None for its own.

    Raises:
        TargetError: there is no such file, module, function or model.
        ImportError: a library that the target needs is not installed.
    """
    if text.endswith(".py"):
        return _file(text, arguments)
    if arguments:
        raise TargetError(
            f"arguments after -- are for a Python file; TARGET is {text!r}, which takes none"
        )
    if ":" in text:
        return _function(text)
    try:
        example = models.load(text, device, batch, image_size)
    except models.UnknownModelError as error:
        raise TargetError(
            f"{error}. TARGET is a file ending in .py, module:function, or a model's name"
        ) from error
    return Target(text, example.run, repeatable=True, notes=example.notes)


def _file(text: str, arguments: Sequence[str]) -> Target:
    path = Path(text)
    if not path.is_file():
        raise TargetError(f"there is no file {text!r} (looked in {Path.cwd()})")

    def run() -> None:
        before_arguments, before_path = sys.argv, list(sys.path)
        sys.argv = [text, *arguments]
        sys.path[0] = str(path.resolve().parent)
        try:
            runpy.run_path(text, run_name="__main__")
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise TargetError(f"{text} ended with exit code {stop.code}") from stop
        finally:
            sys.argv, sys.path[:] = before_arguments, before_path

    return Target(text, run, repeatable=False, notes=("run once, from start to end",))


def _function(text: str) -> Target:
    module_name, _, attributes = text.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as python -m does; the command itself does not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise TargetError(
            f"there is no module {error.name!r} (looked in {Path.cwd()} and where Python looks)"
        ) from error
    found: Any = module
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            names = [name for name in vars(found) if callable(vars(found)[name])]
            there = ", ".join(name for name in names if not name.startswith("_")) or "none"
            raise TargetError(f"{module_name} has no {attribute!r}; it has: {there}")
        found = getattr(found, attribute)
    if not callable(found):
        raise TargetError(f"{text} is no function but {type(found).__name__}")
    return Target(text, found, repeatable=True)
