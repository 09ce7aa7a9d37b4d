"""What is refused, and what the message says of it."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import cvperf
from cvperf.errors import ArgumentError, UnsupportedError
from cvperf.onnx.registry import NEWEST_OPSET, OLDEST_OPSET
from tests.onnx.models import case, floats, graph_of, integers, model_of, number, restart

restart()

IMAGE = floats(1, 4, 6, 6)


def relu(opset: int = 17) -> onnx.ModelProto:
    return graph_of([helper.make_node("Relu", ["x"], ["y"])], {"x": IMAGE}, {}, ["y"], opset)


def test_all_unknown_operators_are_named_at_once() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Bernoulli", ["a"], ["b"], name="dice"),
        helper.make_node("Bernoulli", ["b"], ["c"], name="more_dice"),
        helper.make_node("Frobnicate", ["c"], ["y"], domain="com.example"),
    ]
    with pytest.raises(UnsupportedError) as caught:
        cvperf.from_onnx(graph_of(nodes, {"x": IMAGE}, {}, ["y"]))
    message = str(caught.value)
    assert "2 operators" in message
    assert "opset 17" in message
    assert "Bernoulli (nodes 'dice', 'more_dice')" in message
    assert "com.example.Frobnicate (node 'y')" in message
    assert "docs/onnx.md" in message
    assert "Relu" not in message


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (case("Conv", floats(1, 2, 3, 3, 3, 3), constants=[floats(2, 2, 1, 1, 1, 1)]), "4 spatial"),
        (case("ReduceSum", IMAGE, integers(1)), "axes"),
        (
            case(
                "LSTM",
                floats(2, 1, 3),
                constants=[floats(1, 8, 3), floats(1, 8, 2)],
                hidden_size=2,
                clip=1.0,
            ),
            "clip",
        ),
        (case("RoiAlign", IMAGE, floats(1, 4), integers(0), mode="max"), "mode 'max'"),
        (case("Dropout", IMAGE, constants=[number(0.5), np.array(True)]), "training"),
    ],
    ids=str,
)
def test_a_use_that_is_not_served_names_the_node_and_the_reason(refused: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"{refused.operator} 'y0' \(opset 17\).*{reason}"):
        cvperf.from_onnx(model_of(refused))


@pytest.mark.parametrize("opset", [OLDEST_OPSET - 1, NEWEST_OPSET + 1])
def test_an_opset_out_of_range_is_refused_with_the_range(opset: int) -> None:
    with pytest.raises(
        UnsupportedError, match=f"opset {opset}; .* reads 7 to 26.*version_converter"
    ):
        cvperf.from_onnx(relu(opset))


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no ONNX file .*absent\.onnx"):
        cvperf.from_onnx(tmp_path / "absent.onnx")


def test_half_a_file_and_no_file_at_all(tmp_path: Path) -> None:
    data = model_of(case("Conv", IMAGE, constants=[floats(4, 4, 3, 3)])).SerializeToString()
    (tmp_path / "half.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArgumentError, match=r"half\.onnx' is no ONNX model, or only part"):
        cvperf.from_onnx(tmp_path / "half.onnx")
    for empty in (b"", b"\x00" * 64, b"PK not a model"):
        with pytest.raises(ArgumentError, match="the bytes"):
            cvperf.from_onnx(empty)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(ArgumentError, match="no ONNX model"):
        cvperf.from_onnx(tmp_path / "weights.pt")


def test_something_else_than_a_model() -> None:
    with pytest.raises(TypeError, match=r"path, bytes or an onnx\.ModelProto"):
        cvperf.from_onnx(3)  # type: ignore[arg-type]


def external(folder: Path) -> Path:
    model = model_of(case("Conv", IMAGE, constants=[floats(4, 4, 3, 3)]))
    onnx.save_model(
        model, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    return folder / "m.onnx"


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    module = cvperf.from_onnx(external(tmp_path))
    assert module.w0.abs().sum() > 0


def test_missing_weights_beside_the_model_are_named(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"not beside it: m\.data .*Copy them there"):
        cvperf.from_onnx(path)


def test_short_weights_beside_the_model(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(ArgumentError, match="external data"):
        cvperf.from_onnx(path)


def test_bytes_cannot_have_weights_elsewhere(tmp_path: Path) -> None:
    data = external(tmp_path).read_bytes()
    with pytest.raises(ArgumentError, match="pass the path"):
        cvperf.from_onnx(data)


def test_external_data_must_lie_beside_the_model(tmp_path: Path) -> None:
    """A file cannot make us read another folder's."""
    (tmp_path / "secret").write_bytes(bytes(4 * 4 * 9 * 4))
    (tmp_path / "models").mkdir()
    path = external(tmp_path / "models")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../secret"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ArgumentError, match="external data"):
        cvperf.from_onnx(path)


def test_a_graph_that_names_what_is_not_there() -> None:
    nodes = [helper.make_node("Add", ["x", "ghost"], ["y"])]
    with pytest.raises(ArgumentError, match="inputs of Add 'y' name 'ghost'"):
        cvperf.from_onnx(graph_of(nodes, {"x": IMAGE}, {}, ["y"]))


def test_an_attribute_that_is_missing() -> None:
    with pytest.raises(
        ArgumentError, match=r"MaxPool 'y0'.*no attribute 'kernel_shape'|contradicts"
    ):
        cvperf.from_onnx(model_of(case("MaxPool", IMAGE)))


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def hidden(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "onnx")
    monkeypatch.setattr(builtins, "__import__", hidden)
    with pytest.raises(ImportError, match=r"pip install 'cvperf\[onnx\]'"):
        cvperf.from_onnx("model.onnx")


def test_text_cannot_be_read() -> None:
    words = helper.make_tensor_value_info("x", onnx.TensorProto.STRING, [1])
    output = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [words], [output])
    with pytest.raises(UnsupportedError, match="'x' has elements of type string"):
        cvperf.from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_an_input_that_is_missing() -> None:
    with pytest.raises(ArgumentError, match=r"Conv 'y0' \(opset 17\) has no input 1"):
        cvperf.from_onnx(model_of(case("Conv", IMAGE)))
