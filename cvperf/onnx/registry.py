"""The table of operators: name and opset version -> the function that translates a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from cvperf.onnx.values import Value

if TYPE_CHECKING:
    from cvperf.onnx.node import Node

Handler: TypeAlias = "Callable[[Node], Value | Sequence[Value]]"

HANDLERS: dict[str, dict[int, Handler]] = {}
"""Operator -> the opset version from which on it has a meaning -> its handler."""

ON_NUMBERS: dict[str, Handler] = {}
"""Operator -> its handler where every input is numbers of a shape (:class:`Numbers`)."""

OLDEST_OPSET, NEWEST_OPSET = 7, 26


def operator(*names: str, since: int = 1) -> Callable[[Handler], Handler]:
    """Register the handler of operators, from an opset version on."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS.setdefault(name, {})[since] = handler
        return handler

    return register


def on_numbers(*names: str) -> Callable[[Handler], Handler]:
    """Register how operators compute on numbers of a shape."""

    def register(handler: Handler) -> Handler:
        ON_NUMBERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def find(name: str, opset: int) -> Handler | None:
    """The handler of an operator in an opset, None where there is none."""
    versions = [since for since in HANDLERS.get(name, {}) if since <= opset]
    return HANDLERS[name][max(versions)] if versions else None
