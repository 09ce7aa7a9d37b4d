"""Weights that live in ONNX files, as torch modules: ``cvperf.from_onnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvperf.onnx.files import load
from cvperf.onnx.translate import TensorSpec, translate

if TYPE_CHECKING:
    import os

    import onnx
    from torch.fx import GraphModule

__all__ = ["TensorSpec", "from_onnx"]


def from_onnx(model: str | os.PathLike[str] | bytes | onnx.ModelProto) -> GraphModule:
    """Build a torch module of an ONNX model.

    The result is a ``torch.fx.GraphModule`` of ordinary torch functions in evaluation mode. Weights
    of layers are parameters, other constants buffers, all named as in the file. What the file
    computes from constants alone is computed here, once; arithmetic on shapes is arithmetic on
    Python numbers, so batch and image size stay free where the file leaves them free, also under
    ``torch.export`` with dynamic shapes.

    ``forward`` takes the inputs as tensors in the file's order and gives one tensor, or a tuple of
    them in the file's order. Of the result can be read: ``input_names`` and ``output_names``, and
    ``inputs`` and ``outputs``, each a tuple of :class:`TensorSpec` (name, shape, dtype); ``opset``.

    Quantised models compute in float: weights are dequantised here, and QuantizeLinear rounds.

    Args:
        model: path of a file, its bytes, or an ``onnx.ModelProto``; opset 7 to 26. Weights in files
            beside the model are read from there.

    Raises:
        UnsupportedError: the model has operators, or uses of them, that cannot be translated. All
            unknown operators are named at once, with their nodes and the opset.
        ArgumentError: the file is broken or not sound.
        FileNotFoundError: there is no such file, or its external data is missing.
        ImportError: ``onnx`` is not installed (``pip install 'cvperf[onnx]'``).
        TypeError: ``model`` is none of the above.

    Complexity: linear in nodes and weights; weights are held twice until the proto is dropped.

    Source: the operators of https://onnx.ai/onnx/operators/, held to ONNX Runtime by the tests.
    """
    return translate(load(model))
