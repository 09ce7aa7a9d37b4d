"""Tiny ONNX models, and what ONNX Runtime answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from cvperf.onnx import from_onnx

Array = np.ndarray[Any, Any]
IR_VERSION = 8


@dataclass(frozen=True)
class Case:
    """One node: its inputs, which of them are constants of the file, and its attributes."""

    operator: str
    inputs: Sequence[Array | None]
    constants: Sequence[Array | None] = ()
    """They follow the inputs; None leaves one out."""
    opset: int = 17
    outputs: int = 1
    tolerance: float = 1e-5
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = "-".join(f"{name}={value}" for name, value in self.attributes.items())
        shapes = "-".join("x".join(map(str, x.shape)) for x in self.inputs if x is not None)
        return f"{self.operator}-{self.opset}-{shapes}-{shown}".replace(" ", "")


def case(
    operator: str,
    *inputs: Array,
    constants: Sequence[Array | None] = (),
    opset: int = 17,
    outputs: int = 1,
    tolerance: float = 1e-5,
    **attributes: Any,
) -> Case:
    return Case(operator, inputs, constants, opset, outputs, tolerance, attributes)


def model_of(case: Case, free: bool = True) -> onnx.ModelProto:
    """The case as a model, whose sizes are free or those of the inputs."""
    names = [f"x{index}" for index in range(len(case.inputs))]
    weights = {f"w{i}": w for i, w in enumerate(case.constants) if w is not None}
    given = [*names, *(f"w{i}" if w is not None else "" for i, w in enumerate(case.constants))]
    results = [f"y{index}" for index in range(case.outputs)]
    node = helper.make_node(case.operator, given, results, **case.attributes)
    arrays = {name: x for name, x in zip(names, case.inputs, strict=True) if x is not None}
    return graph_of([node], arrays, weights, results, case.opset, free)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    outputs: Sequence[str],
    opset: int = 17,
    free: bool = True,
) -> onnx.ModelProto:
    def shape(name: str, array: Array) -> list[int | str]:
        return [f"{name}_{axis}" if free else size for axis, size in enumerate(array.shape)]

    graph = helper.make_graph(
        nodes,
        "case",
        [
            helper.make_tensor_value_info(name, element_type(array), shape(name, array))
            for name, array in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION
    )


def element_type(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def peer(model: onnx.ModelProto | bytes, *inputs: Array) -> list[Array]:
    """ONNX Runtime's answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))  # type: ignore[no-any-return]


def ours(model: onnx.ModelProto | bytes, *inputs: Array) -> list[Array]:
    """What the module built of the model answers."""
    module = from_onnx(model)
    with torch.no_grad():
        answer = module(*(torch.from_numpy(x) for x in inputs))
    return [y.numpy() for y in (answer if isinstance(answer, tuple) else (answer,))]


def assert_close(found: Sequence[Array], wanted: Sequence[Array], tolerance: float = 1e-5) -> None:
    """The same dtypes, shapes and values, within a share of the largest value."""
    assert len(found) == len(wanted)
    for ours_, theirs in zip(found, wanted, strict=True):
        assert ours_.dtype == theirs.dtype
        assert ours_.shape == theirs.shape
        finite = np.abs(theirs[np.isfinite(theirs)], dtype=np.float64)
        largest = finite.max() if finite.size else 0.0
        atol = tolerance * max(largest, 1e-3) if theirs.dtype.kind == "f" else 0
        np.testing.assert_allclose(ours_, theirs, rtol=0, atol=atol)


def assert_same(model: onnx.ModelProto | bytes, *inputs: Array, tolerance: float = 1e-5) -> None:
    """The module answers what ONNX Runtime answers."""
    assert_close(ours(model, *inputs), peer(model, *inputs), tolerance)


def check(case: Case, free: bool = True) -> None:
    inputs = [x for x in case.inputs if x is not None]
    assert_same(model_of(case, free), *inputs, tolerance=case.tolerance)


_RANDOM = np.random.default_rng(0)


def restart() -> None:
    """The same random numbers for a file of tests, whichever are read before it."""
    global _RANDOM
    _RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return _RANDOM.standard_normal(shape, dtype=np.float32)


def positive(*shape: int) -> Array:
    return _RANDOM.random(shape, dtype=np.float32) + np.float32(0.1)


def whole(*shape: int, low: int = -9, high: int = 9, dtype: Any = np.int64) -> Array:
    return _RANDOM.integers(low, high, shape).astype(dtype)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)
