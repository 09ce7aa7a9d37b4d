"""Conditions of a graph as JSON: sizes and guards as trees of the functions in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch.utils._sympy.functions as torch_functions

from cvperf.engine.conditions import Conditions, Expected, OpenSize
from cvperf.engine.saved.arguments import DTYPES, from_json, named, to_json
from cvperf.errors import ArgumentError

_FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (
        *(sympy.Add, sympy.Mul, sympy.Pow, sympy.Abs, sympy.And, sympy.Or, sympy.Not),
        *(sympy.Eq, sympy.Ne, sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge, sympy.Max, sympy.Min),
        *(getattr(torch_functions, name) for name in torch_functions.__all__),
        *(torch_functions.Max, torch_functions.Min),
    )
}


def conditions_to_json(conditions: Conditions) -> dict[str, Any]:
    """Leaves and guards.

    Raises:
        ArgumentError: the graph depends on a constant or a function that has no form in a file.
    """
    return {
        "leaves": [
            {"tensor": _tensor_to_json(leaf)}
            if isinstance(leaf, Expected)
            else {"constant": to_json(leaf, {})}
            for leaf in conditions.leaves
        ],
        "guards": [_tree(guard) for guard in conditions.guards],
    }


def conditions_from_json(json: Mapping[str, Any]) -> Conditions:
    """What :func:`conditions_to_json` had."""
    return Conditions(
        tuple(
            _tensor_from_json(leaf["tensor"])
            if "tensor" in leaf
            else from_json(leaf["constant"], ())
            for leaf in json["leaves"]
        ),
        tuple(_expression(guard) for guard in json["guards"]),
    )


def _tensor_to_json(tensor: Expected) -> dict[str, Any]:
    shape = [
        {"size": _tree(size.expression), "lower": size.lower, "upper": size.upper}
        if isinstance(size, OpenSize)
        else size
        for size in tensor.shape
    ]
    return {"dtype": to_json(tensor.dtype, {})["dtype"], "shape": shape}


def _tensor_from_json(json: Mapping[str, Any]) -> Expected:
    shape = tuple(
        OpenSize(_expression(size["size"]), size["lower"], size["upper"])
        if isinstance(size, dict)
        else size
        for size in json["shape"]
    )
    return Expected(named(json["dtype"], DTYPES), shape)


def _tree(expression: Any) -> Any:
    if expression in (sympy.true, sympy.false):
        return bool(expression)
    if expression.is_Symbol:
        return {"symbol": expression.name}
    if expression.is_Integer:
        return int(expression)
    if expression.is_Rational:
        return {"rational": [int(expression.p), int(expression.q)]}
    if expression.is_Float:
        return {"float": float(expression).hex()}
    name = expression.func.__name__
    if _FUNCTIONS.get(name) is not expression.func:
        raise ArgumentError(
            f"the graph depends on {expression} of its sizes, and {name} has no form in a file"
        )
    return {"function": name, "arguments": [_tree(each) for each in expression.args]}


def _expression(tree: Any) -> Any:
    if isinstance(tree, bool):
        return sympy.true if tree else sympy.false
    if isinstance(tree, int):
        return sympy.Integer(tree)
    if "symbol" in tree:
        return sympy.Symbol(tree["symbol"], integer=True, nonnegative=True)
    if "rational" in tree:
        return sympy.Rational(*tree["rational"])
    if "float" in tree:
        return sympy.Float(float.fromhex(tree["float"]))
    arguments = [_expression(each) for each in tree["arguments"]]
    return named(tree["function"], _FUNCTIONS)(*arguments)
