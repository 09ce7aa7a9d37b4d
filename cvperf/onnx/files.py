"""ONNX models from files, bytes or memory, checked before anything is built of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cvperf.errors import ArgumentError, UnsupportedError, describe
from cvperf.onnx.registry import NEWEST_OPSET, OLDEST_OPSET

BIGGEST_INFERRED = 1024
"""Elements of an initializer that may still be a shape; bigger ones are not copied to infer."""


def load(model: Any) -> Any:
    """An ``onnx.ModelProto`` from a path, bytes or such a proto, functions inlined.

    Nothing of the file is executed or unpickled: protobuf parses it.

    Raises:
        ImportError: ``onnx`` is not installed.
        FileNotFoundError: there is no file of that path, or none of its external data.
        ArgumentError: the file is broken, or no ONNX model.
        TypeError: ``model`` is none of these.
    """
    onnx = _onnx()
    if isinstance(model, onnx.ModelProto):
        proto, name = model, "the model"
    elif isinstance(model, (bytes, bytearray, memoryview)):
        proto, name = _parse(bytes(model), "the bytes"), "the bytes"
    elif isinstance(model, (str, os.PathLike)):
        path = Path(model)
        proto, name = _read(path), repr(str(path))
    else:
        raise TypeError(
            "model must be a path, bytes or an onnx.ModelProto of an ONNX model, got "
            f"{describe(model)}"
        )
    _check(proto, name)
    if proto.functions:
        from onnx import inliner

        proto = inliner.inline_local_functions(proto)
    return proto


def opset_of(proto: Any) -> int:
    """The version of ONNX's own operators that a model is written for."""
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return versions[0] if versions else 1


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("cvperf.from_onnx needs onnx: pip install 'cvperf[onnx]'") from error
    return onnx


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no ONNX file {str(path)!r}")
    proto = _parse(path.read_bytes(), repr(str(path)))
    _load_external(proto, path)
    return proto


def _parse(data: bytes, name: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ArgumentError(
            f"{name} is no ONNX model, or only part of one: protobuf cannot read its {len(data)} "
            "bytes. Fetch or export it again"
        ) from error


def _load_external(proto: Any, path: Path) -> None:
    """Read the weights that lie in files beside the model."""
    import onnx
    from onnx import external_data_helper

    missing = {
        entry.value
        for tensor in proto.graph.initializer
        if external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location" and not (path.parent / entry.value).is_file()
    }
    if missing:
        raise FileNotFoundError(
            f"{str(path)!r} keeps weights in files that are not beside it: "
            f"{', '.join(sorted(missing))} (looked in {str(path.parent)!r}). Copy them there"
        )
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ArgumentError(f"the external data of {str(path)!r} is broken: {error}") from error


def _check(proto: Any, name: str) -> None:
    if not proto.opset_import or not proto.graph.output:
        raise ArgumentError(
            f"{name} holds no ONNX model: it has no operator set or no output. Fetch or export it "
            "again"
        )
    opset = opset_of(proto)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedError(
            f"{name} is written for opset {opset}; cvperf.from_onnx reads {OLDEST_OPSET} to "
            f"{NEWEST_OPSET}. onnx.version_converter.convert_version(model, 17) may convert it"
        )
    for tensor in proto.graph.initializer:
        if len(tensor.external_data) and not tensor.raw_data:
            raise ArgumentError(
                f"{name} keeps the weight {tensor.name!r} in another file, which bytes cannot "
                "name: pass the path of the model"
            )


def infer_types(proto: Any) -> dict[str, Any]:
    """ONNX's own inference of each value's type, by name: dtype and rank where they can be told.

    What the file itself says of values within is left out: editors of models leave it stale.
    """
    import onnx

    slim = onnx.ModelProto()
    slim.ir_version = max(proto.ir_version, 4)  # before it an initializer had to be an input too
    slim.opset_import.extend(proto.opset_import)
    slim.graph.node.extend(proto.graph.node)
    slim.graph.input.extend(proto.graph.input)
    slim.graph.output.extend(proto.graph.output)
    given = {entry.name for entry in proto.graph.input}
    for tensor in proto.graph.initializer:
        if _elements(tensor) <= BIGGEST_INFERRED:
            slim.graph.initializer.append(tensor)
        elif tensor.name not in given:
            slim.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    try:
        inferred = onnx.shape_inference.infer_shapes(slim, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ArgumentError(f"the model contradicts itself: {error}") from error
    graph = inferred.graph
    entries = (*graph.value_info, *graph.input, *graph.output)
    return {entry.name: entry.type.tensor_type for entry in entries}


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
