"""TensorFlow.js keeps weights in a manifest and a file of bytes; read_tfjs gives them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.models.tfjs import convolution, depthwise, read_tfjs


def written(folder: Path, content: Sequence[np.ndarray], *entries: dict[str, Any]) -> Path:
    """A manifest of the entries, with the arrays' bytes in two files beside it."""
    data = b"".join(array.tobytes() for array in content)
    (folder / "a.bin").write_bytes(data[:5])
    (folder / "b.bin").write_bytes(data[5:])
    path = folder / "manifest.json"
    path.write_text(json.dumps([{"paths": ["a.bin", "b.bin"], "weights": entries}]))
    return path


def entry(
    name: str, shape: Sequence[int], dtype: str = "float32", **quantization: Any
) -> dict[str, Any]:
    """What a manifest says of a tensor; ``stored`` is the dtype in the file where it is another."""
    if stored := quantization.pop("stored", None):
        quantization["dtype"] = stored
    return {"name": name, "shape": shape, "dtype": dtype, "quantization": quantization}


def test_every_way_of_storing_comes_back_in_its_dtype(tmp_path: Path) -> None:
    content = (
        np.array([[1.5, -2.0]], "<f4"),
        np.array([7], "<i4"),
        np.array([0.5, 3.0], "<f2"),
        np.array([0, 255], "u1"),
        np.array([3], "u1"),
        np.array([1000], "<u2"),
    )
    path = written(
        tmp_path,
        content,
        entry("plain", [1, 2]),
        entry("whole", [], "int32"),
        entry("empty", [0, 4]),
        entry("half", [2], stored="float16", original_dtype="float32"),
        entry("bytes", [2], stored="uint8", scale=0.1, min=-1.0),
        entry("index", [1], "int32", stored="uint8", scale=1, min=-1),
        entry("words", [1], stored="uint16", scale=0.001, min=2.0),
    )
    weights = read_tfjs(path)
    expected = {
        "plain": torch.tensor([[1.5, -2.0]]),
        "whole": torch.tensor(7, dtype=torch.int32),
        "empty": torch.zeros(0, 4),
        "half": torch.tensor([0.5, 3.0]),
        "bytes": torch.tensor([-1.0, 24.5]),
        "index": torch.tensor([2], dtype=torch.int32),
        "words": torch.tensor([3.0]),
    }
    assert list(weights) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value)


def test_a_graph_models_json_has_its_manifest_inside(tmp_path: Path) -> None:
    path = written(tmp_path, (np.array([1, 2], "<f4"),), entry("a", [2]))
    graph = {"format": "graph-model", "weightsManifest": json.loads(path.read_text())}
    (tmp_path / "model.json").write_text(json.dumps(graph))
    assert read_tfjs(tmp_path / "model.json")["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("shape", "said"), [([3], r"a\.bin, b\.bin ends within a"), ([1], "4 bytes more than")]
)
def test_bytes_that_do_not_fit_the_manifest_are_an_error(
    tmp_path: Path, shape: list[int], said: str
) -> None:
    path = written(tmp_path, (np.array([1, 2], "<f4"),), entry("a", shape))
    with pytest.raises(ArgumentError, match=said):
        read_tfjs(path)


def test_what_is_no_manifest_and_an_unknown_dtype_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ArgumentError, match="no weightsManifest"):
        read_tfjs(path)
    path = written(tmp_path, (), entry("a", [1], "complex64"))
    with pytest.raises(ArgumentError, match="a is stored as complex64; known: float32"):
        read_tfjs(path)


def test_layouts_become_torchs() -> None:
    weight = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert convolution(weight)[4, 3, 1, 2] == weight[1, 2, 3, 4]
    assert convolution(weight).shape == (5, 4, 2, 3)
    assert depthwise(weight[..., :1])[3, 0, 1, 2] == weight[1, 2, 3, 0]
    assert depthwise(weight[..., :1]).shape == (4, 1, 2, 3)
