"""An operator's arguments as JSON.

What JSON has stands for itself, lists are lists. Everything else is an object of one key that says
what it is: ``{"node": 3}`` is what the fourth node gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from cvperf.errors import ArgumentError


def _by_name(*values: Any) -> dict[str, Any]:
    return {str(value).removeprefix("torch."): value for value in values}


DTYPES = _by_name(
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
FORMATS = _by_name(
    *(torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format)
)
LAYOUTS = _by_name(torch.strided)
_TABLES = (
    ("dtype", torch.dtype, DTYPES),
    ("memory_format", torch.memory_format, FORMATS),
    ("layout", torch.layout, LAYOUTS),
)


def to_json(value: Any, nodes: Mapping[fx.Node, int]) -> Any:
    """An argument, lists and numbers in it; ``nodes`` says which number each node has.

    Raises:
        ArgumentError: it has no form in a file.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": nodes[value]}
    if isinstance(value, list):
        return [to_json(each, nodes) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [to_json(each, nodes) for each in value]}
    if isinstance(value, torch.device) and value.type == "cpu":
        return {"device": "cpu"}
    for key, kind, table in _TABLES:
        if isinstance(value, kind):
            return {key: _named(value, table)}
    raise ArgumentError(f"{value!r} ({type(value).__name__}) cannot be saved as an argument")


def _named(value: Any, table: Mapping[str, Any]) -> str:
    name = str(value).removeprefix("torch.")
    if name not in table:
        raise ArgumentError(f"{value} cannot be saved; known are {', '.join(table)}")
    return name


def from_json(value: Any, nodes: Sequence[Any]) -> Any:
    """The argument that :func:`to_json` had; ``nodes`` are those that were read before.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(value, list):
        return [from_json(each, nodes) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind in _READERS:
            return _READERS[kind](content, nodes)
    raise ArgumentError(f"unknown argument {value!r}")


def node_at(index: Any, nodes: Sequence[Any]) -> Any:
    """The node of this number, if it comes before."""
    if type(index) is not int or not 0 <= index < len(nodes):
        raise ArgumentError(f"node {index!r} is not there; {len(nodes)} come before")
    return nodes[index]


def named(content: Any, table: Mapping[str, Any]) -> Any:
    """The entry of a table."""
    if not isinstance(content, str) or content not in table:
        raise ArgumentError(f"{content!r} is none of {', '.join(table)}")
    return table[content]


_READERS: dict[str, Callable[[Any, Sequence[Any]], Any]] = {
    "node": node_at,
    "tuple": lambda content, nodes: tuple(from_json(each, nodes) for each in content),
    "float": lambda content, nodes: float(content),
    "device": lambda content, nodes: torch.device(named(content, {"cpu": "cpu"})),
    "dtype": lambda content, nodes: named(content, DTYPES),
    "memory_format": lambda content, nodes: named(content, FORMATS),
    "layout": lambda content, nodes: named(content, LAYOUTS),
}
