"""TensorRT on the ONNX models.

Not yet run on hardware.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import onnx_model
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.conv2d import Convolution


def conv2d(problem: Convolution) -> Contender:
    size = (problem.shape.n, problem.shape.o, *problem.shape.output_size)
    return _engine(onnx_model.convolution(problem), size)


def _engine(problem: onnx_model.OnnxModel, size: tuple[int, ...]) -> Contender:
    """Runs on torch's current stream, into one answer tensor [*size] that every run writes."""
    import tensorrt

    engine = tensorrt.Runtime(_logger()).deserialize_cuda_engine(_plan(problem.data))
    context = engine.create_execution_context()
    inputs = {name: torch.from_numpy(array).cuda() for name, array in problem.inputs.items()}
    answer = torch.empty(size, device="cuda")
    for name, tensor in {**inputs, "answer": answer}.items():
        context.set_tensor_address(name, tensor.data_ptr())

    def run() -> Tensor:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError(f"TensorRT could not start {sorted(inputs)} -> answer")
        return answer

    return Contender(run, layout="contiguous", note="the engine is built before the clock, no TF32")


def _plan(data: bytes) -> Any:
    """The built engine, serialised.

    Raises:
        Unsupported: TensorRT cannot parse or build the model.
    """
    import tensorrt

    builder = tensorrt.Builder(_logger())
    network = builder.create_network()
    parser = tensorrt.OnnxParser(network, _logger())
    if not parser.parse(data):
        raise Unsupported(f"tensorrt.OnnxParser: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Unsupported("tensorrt.Builder could not build an engine of it")
    return plan


def _logger() -> Any:
    import tensorrt

    return tensorrt.Logger(tensorrt.Logger.ERROR)


PEER = Peer("tensorrt", ("tensorrt", "onnx"), {"conv2d": conv2d}, devices=("cuda",))
