"""From an ``onnx.ModelProto`` to a module: the nodes in order, each by its handler."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from cvperf.errors import ArgumentError, UnsupportedError
from cvperf.onnx import operators  # noqa: F401  (fills the table)
from cvperf.onnx.arithmetic import as_numbers
from cvperf.onnx.builder import Builder
from cvperf.onnx.dtypes import DTYPES, torch_dtype, torch_tensor
from cvperf.onnx.files import infer_types, opset_of
from cvperf.onnx.node import Node
from cvperf.onnx.registry import ON_NUMBERS, find
from cvperf.onnx.values import Constant, Numbers, Traced, Value, plain

OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class TensorSpec:
    """What the file says of an input or output."""

    name: str
    shape: tuple[int | str | None, ...] | None
    """Sizes; a name (or None) where the size is free; None for any number of dimensions."""
    dtype: torch.dtype | None
    """None where neither the file nor ONNX's inference tells it, which happens to outputs only."""


def translate(proto: Any) -> fx.GraphModule:
    """Build the module of a checked model.

    Raises:
        UnsupportedError: operators, or uses of them, that have no handler.
        ArgumentError: the graph is not sound.
    """
    check_operators(proto)
    reader = _Reader(proto)
    inputs = reader.declare_inputs()
    reader.read(proto.graph.node)
    return reader.finish(inputs)


def check_operators(proto: Any) -> None:
    """Raises UnsupportedError that names every operator without a handler, and its nodes."""
    opset = opset_of(proto)
    unknown: dict[str, list[str]] = {}
    for node in _nodes(proto.graph):
        if node.op_type == "If" and node.domain in OWN_DOMAINS:
            continue
        if node.domain not in OWN_DOMAINS or find(node.op_type, opset) is None:
            unknown.setdefault(_title(node), []).append(_name(node))
    if not unknown:
        return
    listed = "; ".join(f"{name} ({_some(nodes)})" for name, nodes in sorted(unknown.items()))
    raise UnsupportedError(
        f"cvperf.from_onnx has no translation for {len(unknown)} operator"
        f"{'s' if len(unknown) > 1 else ''} of this model (opset {opset}): {listed}. "
        "docs/onnx.md lists those that it has. Export the model without them, cut the graph before "
        "them (onnx.utils.extract_model), or build the model in torch"
    )


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the graphs within it."""
    for node in graph.node:
        yield node
        for entry in node.attribute:
            yield from _nodes(entry.g)


def _title(node: Any) -> str:
    return str(node.op_type if node.domain in OWN_DOMAINS else f"{node.domain}.{node.op_type}")


def _name(node: Any) -> str:
    """The name of a node; that of its first output where it has none."""
    return str(node.name or next(iter(node.output), "unnamed"))


def _some(nodes: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in nodes[:3])
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    return f"node{'s' if len(nodes) > 1 else ''} {shown}{more}"


class _Reader:
    """Values by name, while the nodes are read."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.opset = opset_of(proto)
        self.types = infer_types(proto)
        self.builder = Builder()
        self.values: dict[str, Value] = {}
        self._add_weights(proto.graph)
        if proto.graph.sparse_initializer:
            raise UnsupportedError(
                "cvperf.from_onnx does not read sparse initializers; store the weights dense"
            )

    def declare_inputs(self) -> list[TensorSpec]:
        """A placeholder for each input of the file that is no weight."""
        specs = [_spec(entry) for entry in self.proto.graph.input if entry.name not in self.values]
        for spec in specs:
            node = self.builder.placeholder(spec.name)
            rank = None if spec.shape is None else len(spec.shape)
            self.values[spec.name] = Traced(node, rank, spec.dtype, _fixed(spec.shape))
        return specs

    def read(self, nodes: Iterable[Any]) -> None:
        for proto in nodes:
            if proto.op_type == "If":
                self._read_branch(proto)
                continue
            node = self._node(proto)
            results = self._translated(node)
            for name, value in zip(proto.output, results, strict=False):
                if name:
                    self.values[name] = self._described(name, value)

    def finish(self, inputs: list[TensorSpec]) -> fx.GraphModule:
        """The module: dead code gone, what the file says of inputs and outputs as attributes."""
        outputs = [self._output(entry) for entry in self.proto.graph.output]
        nodes = tuple(
            self.builder.node_of(self._value(spec.name, "the graph's outputs")) for spec in outputs
        )
        self.builder.graph.output(nodes[0] if len(nodes) == 1 else nodes)
        self.builder.graph.eliminate_dead_code()
        self.builder.graph.lint()
        module = fx.GraphModule(self.builder.holder, self.builder.graph, "OnnxModel")
        facts = {
            "inputs": tuple(inputs),
            "outputs": tuple(outputs),
            "input_names": tuple(spec.name for spec in inputs),
            "output_names": tuple(spec.name for spec in outputs),
            "opset": self.opset,
        }
        for name, fact in facts.items():
            setattr(module, name, fact)
        module.meta["_user_preserved_attributes"] = facts  # so that copies have them too
        return module.eval()

    def _output(self, entry: Any) -> TensorSpec:
        """What the file says of an output, and what is inferred where it says nothing."""
        if entry.type.HasField("tensor_type") and entry.type.tensor_type.elem_type:
            return _spec(entry)
        kind = self.types.get(entry.name)
        if kind is None:
            return TensorSpec(entry.name, None, None)
        return TensorSpec(entry.name, _shape(kind), DTYPES.get(kind.elem_type))

    def _node(self, proto: Any) -> Node:
        title = f"the inputs of {proto.op_type} {_name(proto)!r}"
        return Node(
            operator=proto.op_type,
            name=_name(proto),
            opset=self.opset,
            attributes={entry.name: _attribute(entry) for entry in proto.attribute},
            inputs=[self._value(name, title) if name else None for name in proto.input],
            output_names=list(proto.output),
            builder=self.builder,
        )

    def _value(self, name: str, where: str) -> Value:
        if name not in self.values:
            raise ArgumentError(
                f"{where} name {name!r}, which is no input, no weight and no result of a node "
                "before it: the file is broken"
            )
        return self.values[name]

    def _translated(self, node: Node) -> Sequence[Value]:
        result = self._on_numbers(node)
        if result is NotImplemented:
            handler = find(node.operator, node.opset)
            if handler is None:
                raise UnsupportedError(f"cvperf.from_onnx has no translation for {node}")
            result = handler(node)
        return [result] if isinstance(result, (Constant, Traced, Numbers)) else result

    def _on_numbers(self, node: Node) -> Any:
        """The result on numbers of a shape, if that is what the node computes."""
        if node.operator not in ON_NUMBERS or not any(
            isinstance(value, Numbers) for value in node.inputs
        ):
            return NotImplemented
        if any(value is not None and as_numbers(value) is None for value in node.inputs):
            return NotImplemented
        return ON_NUMBERS[node.operator](node)

    def _described(self, name: str, value: Value) -> Value:
        """A result with its name, and what ONNX's inference tells of it where we know less."""
        if isinstance(value, Constant):
            value.name = value.name or name
        if not isinstance(value, Traced) or name not in self.types:
            return value
        kind = self.types[name]
        rank = value.rank
        if rank is None and kind.HasField("shape"):
            rank = len(kind.shape.dim)
        dtype = value.dtype or DTYPES.get(kind.elem_type)
        return replace(value, rank=rank, dtype=dtype, sizes=value.sizes or _fixed(_shape(kind)))

    def _read_branch(self, proto: Any) -> None:
        """An ``If`` whose condition is known is the branch it takes; else both become modules."""
        node = self._node(proto)
        condition = as_numbers(node.value(0))
        bodies = {entry.name: entry.g for entry in proto.attribute}
        if condition is None or not plain(condition.items):
            self._read_both(node, bodies["then_branch"], bodies["else_branch"])
            return
        branch = bodies["then_branch" if condition.items[0] else "else_branch"]
        self._add_weights(branch)
        self.read(branch.node)
        for name, entry in zip(proto.output, branch.output, strict=True):
            self.values[name] = self._value(entry.name, f"the outputs of {node}")

    def _read_both(self, node: Node, then_branch: Any, else_branch: Any) -> None:
        """Each branch is a module that takes what either needs of the values around it."""
        needed = list(dict.fromkeys([*_names(then_branch), *_names(else_branch)]))
        given = [name for name in needed if isinstance(self.values.get(name), (Traced, Numbers))]
        modules = []
        for role, branch in (("then", then_branch), ("else", else_branch)):
            name = self.builder.add_module(f"{node.name}_{role}", self._body(branch, given))
            modules.append(self.builder.graph.get_attr(name))
        arguments = [self.builder.as_tensor(self.values[name]) for name in given]
        results = self.builder.tensors(
            len(node.output_names), branched, node.number(0), *modules, *arguments
        )
        for name, value in zip(node.output_names, results, strict=True):
            self.values[name] = self._described(name, value)

    def _body(self, branch: Any, given: Sequence[str]) -> fx.GraphModule:
        """A branch as a module of its own that gives a tuple."""
        inner = copy.copy(self)
        inner.builder = Builder()
        inner.values = {n: v for n, v in self.values.items() if isinstance(v, Constant)}
        for name in given:
            outer = self.values[name]
            node = inner.builder.placeholder(name)
            inner.values[name] = Traced(node, outer.rank, outer.dtype)
        inner._add_weights(branch)
        inner.read(branch.node)
        outputs = [inner._value(entry.name, "the outputs of a branch") for entry in branch.output]
        inner.builder.graph.output(tuple(inner.builder.node_of(value) for value in outputs))
        inner.builder.graph.eliminate_dead_code()
        return fx.GraphModule(inner.builder.holder, inner.builder.graph, "Branch")

    def _add_weights(self, graph: Any) -> None:
        for tensor in graph.initializer:
            self.values[tensor.name] = Constant(torch_tensor(tensor), tensor.name)


def branched(condition: Any, then_branch: nn.Module, else_branch: nn.Module, *given: Any) -> Any:
    """The answer of the branch that is taken."""
    return (then_branch if condition else else_branch)(*given)


def _names(graph: Any) -> list[str]:
    """Every name that a graph reads, also in graphs within it."""
    names = [entry.name for entry in graph.output]
    for node in graph.node:
        names += node.input
        for entry in node.attribute:
            names += _names(entry.g)
    return names


def _spec(entry: Any) -> TensorSpec:
    if not entry.type.HasField("tensor_type"):
        raise UnsupportedError(
            f"cvperf.from_onnx: {entry.name!r} is no tensor but a sequence, map or optional; "
            "export the model with tensors"
        )
    kind = entry.type.tensor_type
    return TensorSpec(entry.name, _shape(kind), torch_dtype(f"{entry.name!r}", kind.elem_type))


def _shape(kind: Any) -> tuple[int | str | None, ...] | None:
    return tuple(_size(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None


def _fixed(shape: tuple[int | str | None, ...] | None) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape or ())


def _size(dim: Any) -> int | str | None:
    """Some exporters write -1 for a free size."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return str(dim.dim_param) or None


def _attribute(entry: Any) -> Any:
    """An attribute as Python numbers, strings, a tensor, or lists of them."""
    from onnx import AttributeProto, helper

    if entry.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        return None
    value = helper.get_attribute_value(entry)
    if entry.type == AttributeProto.TENSOR:
        return torch_tensor(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (int, float, str)):
        return value
    return [item.decode() if isinstance(item, bytes) else item for item in value]
