"""The structure of arguments and answers as JSON, by torch's own form of it, read with care.

``torch.utils._pytree.treespec_loads`` imports whatever module an enum or the factory of a
defaultdict names, so that these two are refused before it sees them.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from torch.utils import _pytree as pytree

from cvperf.errors import ArgumentError

_REFUSED = ("collections.defaultdict",)


def structure_to_json(structure: pytree.TreeSpec, what: str) -> Any:
    """Lists, tuples, dictionaries, and types that were registered with a name for this.

    Args:
        structure: of ``what``, such as the answers.
        what: for the error.

    Raises:
        ArgumentError: there is another type in it.
    """
    try:
        text = pytree.treespec_dumps(structure)
        found = json.loads(text)
        is_whole = structure_from_json(found) == structure
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ArgumentError(f"the structure of the {what} cannot be saved: {error}") from error
    if not is_whole:
        raise ArgumentError(
            f"the structure of the {what} cannot be saved: {structure}. Keys of dictionaries must "
            "be strings or integers"
        )
    return found


def structure_from_json(found: Any) -> pytree.TreeSpec:
    """What :func:`structure_to_json` had.

    Raises:
        ArgumentError: a type that is not known here, or must not be in a file.
    """
    _, tree = found
    _check(tree)
    try:
        return pytree.treespec_loads(json.dumps(found))
    except NotImplementedError as error:
        raise ArgumentError(f"{error} Import the package that defines it first") from error


def _check(tree: Any) -> None:
    if tree["type"] in _REFUSED:
        raise ArgumentError(f"a {tree['type']} must not be in a file: return a dict")
    if isinstance(tree["context"], str):
        with contextlib.suppress(json.JSONDecodeError):  # a name
            json.loads(tree["context"], object_hook=_refuse_enum)
    for child in tree["children_spec"]:
        _check(child)


def _refuse_enum(found: dict[str, Any]) -> dict[str, Any]:
    if "__enum__" in found:
        raise ArgumentError("keys that are enums must not be in a file")
    return found
