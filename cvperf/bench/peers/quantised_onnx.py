"""A network as ONNX on 8-bit integers, by ONNX Runtime's own tools: what it and OpenVINO load."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvperf.bench.peers import onnx_model
from cvperf.bench.peers.onnx_model import OnnxModel
from cvperf.bench.problems.model_int8 import ModelInt8

PRODUCTS = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "MaxPool",
    "GlobalAveragePool",
    "Concat",
    "Add",
)
"""Operators that gain by bytes everywhere; what is left out, such as the parts of SiLU, costs a
conversion there and back but is faster in float on some machines."""


def network(problem: ModelInt8, operators: Sequence[str] | None = None) -> OnnxModel:
    """The network in QDQ form: uint8 activations, int8 weights with a scale a filter.

    Made as ONNX Runtime's documentation says: shapes inferred and the graph optimised first, then
    ranges by the extremes over the calibration images. Weights have the problem's bits.

    Args:
        problem: the network and its images.
        operators: kinds of nodes to quantise; None: all that the tool knows.

    Raises:
        Unsupported: torch's exporter does not take the network.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    exported = onnx_model.network(problem)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        raw, ready, done = (Path(folder) / f"{name}.onnx" for name in ("raw", "ready", "done"))
        raw.write_bytes(exported.data)
        quant_pre_process(raw, ready)
        quantize_static(
            ready,
            done,
            _reader(problem),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=None if operators is None else list(operators),
            per_channel=True,
            reduce_range=problem.weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return OnnxModel(done.read_bytes(), exported.inputs)


def feeds(problem: ModelInt8) -> list[Mapping[str, Any]]:
    """The calibration images by the name of the network's input."""
    return [{"input_0": image.contiguous().numpy()} for image in problem.calibration]


def _reader(problem: ModelInt8) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(feeds(problem))

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self.feeds, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools log advice about what is done here already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
