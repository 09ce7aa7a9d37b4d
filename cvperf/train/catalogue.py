"""Recipes by name, with changes from the command line; a key that is unknown names the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from cvperf.errors import ArgumentError, did_you_mean
from cvperf.train.recipe import Recipe


def names() -> list[str]:
    """The recipes that ship: ``dataset/model`` or ``dataset/purpose``."""
    return sorted(_shipped())


def load(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe that ships, or the YAML file at a path, with ``key=value`` changes.

    Args:
        name: such as ``"fashion-mnist/lenet"``, or a path that ends in ``.yaml``.
        changes: such as ``"optimizer.lr=0.05"`` or ``"data.options.root=/photos"``.

    Raises:
        ArgumentError: there is no such recipe, a key is unknown (the nearest known one is named),
            or a value has the wrong type.
    """
    text = _text(name)
    try:
        given = OmegaConf.create(text)
        if not isinstance(given, DictConfig):
            raise ArgumentError(f"recipe {name} is not a mapping of keys to values")
        return from_mapping(OmegaConf.merge(given, OmegaConf.from_dotlist(list(changes))))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ArgumentError(f"recipe {name}: {error}") from error


def from_mapping(given: Any) -> Recipe:
    """A mapping as the dataclass, checked.

    Raises:
        ArgumentError: a key is unknown, a value has the wrong type, or one that is needed is
            missing.
    """
    schema = OmegaConf.structured(Recipe)
    try:
        recipe = OmegaConf.to_object(OmegaConf.merge(schema, given))
    except ConfigKeyError as error:
        raise ArgumentError(_unknown_key(schema, str(error.full_key))) from error
    except OmegaConfBaseException as error:
        raise ArgumentError(f"recipe key {error.full_key!r}: {error.msg}") from error
    return cast(Recipe, recipe)


def to_yaml(recipe: Recipe) -> str:
    """The text that :func:`load` reads back as the same recipe."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def _unknown_key(schema: DictConfig, key: str) -> str:
    known = list(_keys(schema))
    # A key deep in another section is as likely a slip as a misspelt one: compare last parts too.
    by_last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    last = difflib.get_close_matches(key.rpartition(".")[2], list(by_last), n=1, cutoff=0.6)
    nearest = near[0] if near else by_last[last[0]] if last else None
    hint = f"; did you mean {nearest!r}?" if nearest else f"; known: {', '.join(known)}"
    return f"unknown recipe key {key!r}{hint}"


def _keys(section: DictConfig, above: str = "") -> Iterator[str]:
    for key in map(str, section):
        name = f"{above}{key}"
        value = None if OmegaConf.is_missing(section, key) else section[key]
        yield name
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{name}.")


def _text(name: str | Path) -> str:
    if str(name).endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ArgumentError(f"there is no recipe file {name}")
        return Path(name).read_text()
    shipped = _shipped()
    if str(name) not in shipped:
        hint = did_you_mean(str(name), shipped, 0.4) or "."
        known = ", ".join(sorted(shipped))
        raise ArgumentError(f"unknown recipe {name!r}{hint} Known: {known}; or a path to a .yaml")
    return shipped[str(name)].read_text()


def _shipped() -> dict[str, Path]:
    folder = Path(__file__).parent / "recipes"
    found = folder.glob("*/*.yaml")
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in found}
