"""Transforms by name: torchvision's v2, and what it lacks in the same style.

All take (image, target) with an image uint8 [C, H, W] and carry boxes and masks along; random
numbers come from torch's generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from torchvision.transforms import v2

from cvperf.data.transforms.clahe import CLAHE, clahe
from cvperf.data.transforms.color import ChannelShift, ColorCast
from cvperf.data.transforms.geometry import BoxesFromMasks, Elastic, RandomCrop, SanitizeBoxes
from cvperf.data.transforms.jpeg import RandomJPEG
from cvperf.data.transforms.occluder import RandomOccluder
from cvperf.data.transforms.shadow import RandomShadow
from cvperf.data.transforms.table import KNOWN, to_float
from cvperf.errors import ArgumentError, describe, did_you_mean

__all__ = [
    "CLAHE",
    "BoxesFromMasks",
    "ChannelShift",
    "ColorCast",
    "Elastic",
    "RandomCrop",
    "RandomJPEG",
    "RandomOccluder",
    "RandomShadow",
    "SanitizeBoxes",
    "build",
    "clahe",
    "known",
    "to_float",
]


def known() -> dict[str, str]:
    """Every name that :func:`build` takes, with what it does."""
    return {name: entry.does for name, entry in KNOWN.items()}


def build(entries: Sequence[str | Mapping[str, Any]]) -> v2.Transform:
    """One transform of a list, as it stands in a recipe.

    Args:
        entries: each a name, or a mapping of ``name`` and arguments: those of the class, and ``p``,
            the probability with which it is applied, for all.

    Raises:
        ArgumentError: an unknown name or argument, a missing one, or one that does not fit.
    """
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise ArgumentError(f"transforms must be a list, got {describe(entries)}")
    return v2.Compose([_build(entry) for entry in entries]) if entries else v2.Identity()


def _build(entry: str | Mapping[str, Any]) -> v2.Transform:
    arguments = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(arguments, Mapping) or not isinstance(arguments.get("name"), str):
        raise ArgumentError(
            f"a transform must be a name or a mapping with a name, got {describe(entry)}"
        )
    name = arguments["name"]
    if name not in KNOWN:
        raise ArgumentError(f"unknown transform {name!r}{_nearest(name, list(KNOWN))}")
    make, defaults = KNOWN[name].make, KNOWN[name].defaults
    given = {**defaults, **{key: _plain(v) for key, v in arguments.items() if key != "name"}}
    parameters = signature(make).parameters
    chance = None if "p" in parameters else given.pop("p", None)
    _check_arguments(name, given, parameters)
    try:
        made = make(**given)
        return made if chance is None else v2.RandomApply([made], p=chance)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"transform {name!r} with {given}: {error}") from error


def _check_arguments(
    name: str, given: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> None:
    for argument in given:
        if argument not in parameters:
            hint = _nearest(argument, [*parameters, "p"])
            raise ArgumentError(f"transform {name!r} has no argument {argument!r}{hint}")
    needed = [one.name for one in parameters.values() if one.default is Parameter.empty]
    if missing := [argument for argument in needed if argument not in given]:
        raise ArgumentError(f"transform {name!r} needs {', '.join(missing)}")


def _plain(value: Any) -> Any:
    """A list of a recipe, whatever class reads it, as a list that torchvision takes."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value


def _nearest(name: str, choices: Sequence[str]) -> str:
    return f"{did_you_mean(name, choices, 0.5) or '.'} Known: {', '.join(choices)}"
