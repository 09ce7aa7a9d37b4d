"""The torch.fx graph that grows while a model is read, with its parameters and buffers."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from cvperf.onnx.values import Constant, Number, Numbers, TensorValue, Traced, Value


class Builder:
    """Adds calls to the graph; a call whose arguments are all known is made at once instead."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.holder = nn.Module()
        self.device_of: fx.Node | None = None
        """An input of the model: tensors that the graph makes from nothing lie on its device."""
        self._attributes: dict[Constant, fx.Node] = {}
        self._sizes: dict[tuple[fx.Node, int], fx.Node] = {}

    def placeholder(self, name: str) -> fx.Node:
        node = self.graph.placeholder(identifier(name))
        self.device_of = self.device_of or node
        return node

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a call, or the graph's node of it where an argument is known only later."""
        if _any_later(args) or _any_later(kwargs):
            return self.graph.call_function(
                function, map_aggregate(args, self._later), map_aggregate(kwargs, self._later)
            )
        with torch.no_grad():
            return function(*map_aggregate(args, _now), **map_aggregate(kwargs, _now))

    def tensor(
        self, function: Callable[..., Any], *args: Any, rank: int | None = None, **kwargs: Any
    ) -> TensorValue:
        """:meth:`call` for a function that gives one tensor."""
        result = self.call(function, *args, **kwargs)
        if isinstance(result, fx.Node):
            return Traced(result, rank)
        return Constant(result)

    def tensors(
        self,
        count: int,
        function: Callable[..., Any],
        *args: Any,
        rank: int | None = None,
        **kwargs: Any,
    ) -> list[TensorValue]:
        """:meth:`call` for a function that gives several tensors, of which ``count`` are used."""
        result = self.call(function, *args, **kwargs)
        if isinstance(result, fx.Node):
            return [Traced(self.call(_item, result, index), rank) for index in range(count)]
        return [Constant(tensor) for tensor in result[:count]]

    def created(
        self, function: Callable[..., Any], *args: Any, rank: int | None = None, **kwargs: Any
    ) -> TensorValue:
        """:meth:`tensor` for a function that makes one from numbers, and takes a device."""
        if _any_later(args) and self.device_of is not None:
            kwargs["device"] = self.call(getattr, self.device_of, "device")
        return self.tensor(function, *args, rank=rank, **kwargs)

    def as_tensor(self, value: Value) -> TensorValue:
        """Numbers become a tensor; tensors stay."""
        if not isinstance(value, Numbers):
            return value
        items = value.items[0] if value.rank == 0 else list(value.items)
        tensor = self.created(torch.tensor, items, dtype=value.dtype)
        if value.rank > 1:
            tensor = self.tensor(torch.reshape, tensor, value.shape)
        if isinstance(tensor, Traced):
            return Traced(tensor.node, value.rank, value.dtype, value.shape)
        return tensor

    def size(self, value: TensorValue, axis: int) -> Number:
        """How long a tensor is along an axis."""
        if isinstance(value, Constant):
            return value.tensor.shape[axis]
        key = value.node, axis
        if key not in self._sizes:
            self._sizes[key] = self.graph.call_method("size", (value.node, axis))
        return self._sizes[key]

    def node_of(self, value: Value) -> fx.Node:
        """The graph's node that gives a value as a tensor."""
        value = self.as_tensor(value)
        return value.node if isinstance(value, Traced) else self._attribute(value)

    def add_module(self, wanted: str, module: nn.Module) -> str:
        """Keep a module that the graph calls; its name in the result."""
        name = self._free_name(identifier(wanted))
        self.holder.add_module(name, module)
        return name

    def _later(self, argument: Any) -> Any:
        if isinstance(argument, Traced):
            return argument.node
        return self._attribute(argument) if isinstance(argument, Constant) else argument

    def _attribute(self, constant: Constant) -> fx.Node:
        if constant not in self._attributes:
            name = self._free_name(identifier(constant.name or "constant"))
            self._register(name, constant)
            self._attributes[constant] = self.graph.get_attr(name)
        return self._attributes[constant]

    def _register(self, name: str, constant: Constant) -> None:
        # A copy where others share the memory: an initializer of the file, or a view of one.
        tensor = constant.tensor.detach().clone(memory_format=torch.contiguous_format)
        if constant.trainable and tensor.is_floating_point():
            self.holder.register_parameter(name, nn.Parameter(tensor))
        else:
            self.holder.register_buffer(name, tensor)

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 0
        while hasattr(self.holder, name):
            count += 1
            name = f"{wanted}_{count}"
        return name


def identifier(name: str) -> str:
    """An ONNX name as a name of Python: ``input.1`` is ``input_1``."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not cleaned or cleaned[0].isdigit() or cleaned.startswith("__"):
        cleaned = f"value_{cleaned}"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) else cleaned


def _item(values: Any, index: int) -> Any:
    return values[index]


def _now(argument: Any) -> Any:
    return argument.tensor if isinstance(argument, Constant) else argument


def _any_later(arguments: Any) -> bool:
    found: list[bool] = []

    def look(argument: Any) -> Any:
        found.append(isinstance(argument, (Traced, fx.Node)))
        return argument

    map_aggregate(arguments, look)
    return any(found)
