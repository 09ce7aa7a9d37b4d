"""What a graph may call, by name: torch's operators of four namespaces, and a table of functions.

Nothing is ever imported or looked up beyond these.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch

from cvperf.errors import ArgumentError

NAMESPACES = ("aten", "cvperf", "prims", "torchvision")

REFUSED = ("aten.from_file",)
"""It reads and writes any file."""

FUNCTIONS: dict[str, Any] = {
    f"python.{function.__name__}": function
    for function in (
        *(operator.getitem, operator.add, operator.sub, operator.mul, operator.neg, operator.pow),
        *(operator.truediv, operator.floordiv, operator.mod, operator.and_, operator.or_),
        *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
        *(math.ceil, math.floor, math.trunc, round),
        *(torch.sym_float, torch.sym_int, torch.sym_max, torch.sym_min, torch.sym_not),
        *(torch.sym_ite, torch.sym_sum),
    )
}
"""Arithmetic on sizes, and one of several answers."""

_NAMES = {function: name for name, function in FUNCTIONS.items()}


def name_of(target: Any) -> str:
    """An operator's name, such as ``aten.relu.default``.

    Raises:
        ArgumentError: none by which it could be found again.
    """
    if not isinstance(target, torch._ops.OpOverload):
        if target in _NAMES:
            return _NAMES[target]
        raise ArgumentError(f"the graph calls {target}, which is no operator that can be saved")
    name = str(target)
    if _is_known(name):
        return name
    raise ArgumentError(
        f"the graph calls {name}: only operators of {', '.join(NAMESPACES)} can be saved"
    )


def operator_named(name: str) -> Any:
    """What :func:`name_of` gave the name of.

    Raises:
        ArgumentError: there is no such operator, or none that a graph may call.
        ImportError: it is torchvision's, which is not installed.
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if not _is_known(name):
        raise ArgumentError(f"unknown operator {name!r}")
    namespace, packet_name, overload = name.split(".")
    if namespace == "torchvision":
        _import_torchvision(name)
    packet = getattr(getattr(torch.ops, namespace), packet_name, None)
    found = getattr(packet, overload, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket) or not isinstance(
        found, torch._ops.OpOverload
    ):
        raise ArgumentError(f"unknown operator {name!r}; this is torch {torch.__version__}")
    return found


def _is_known(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 and parts[0] in NAMESPACES and ".".join(parts[:2]) not in REFUSED


def _import_torchvision(name: str) -> None:
    try:
        import torchvision  # noqa: F401  (defines its operators)
    except ImportError as error:
        raise ImportError(f"{name} needs torchvision: pip install 'cvperf[models]'") from error
