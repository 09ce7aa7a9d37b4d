"""ONNX Runtime's CPU provider on models of one node, and on exported networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Contender
from cvperf.bench.peers import onnx_model, quantised_onnx
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.fastest import fastest
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.model_int8 import ModelInt8
from cvperf.bench.problems.nms import Nms
from cvperf.bench.problems.roi_align import RoiAlign


def conv2d(problem: Convolution) -> Contender:
    return _contender(
        onnx_model.convolution(problem),
        note="weight packed before the clock; reordering the image to its blocked layout and back "
        "is inside",
    )


def roi_align(problem: RoiAlign) -> Contender:
    return _contender(onnx_model.roi_align(problem))


def nms(problem: Nms) -> Contender:
    return _contender(onnx_model.nms(problem), column=2)


def int8_gemm(problem: Int8Gemm) -> Contender:
    return _contender(onnx_model.int8_gemm(problem), layout=None, note="b packed before the clock")


def conv2d_int8(problem: Conv2dInt8) -> Contender:
    return _contender(
        onnx_model.conv2d_int8(problem),
        note="weight packed before the clock; the image is NCHW, as its operator wants it",
    )


def model(problem: Model) -> Contender:
    return _contender(onnx_model.network(problem), note="exported and packed before the clock")


def model_int8(problem: ModelInt8) -> Contender:
    """All operators on bytes, or only those that always gain: what is faster here."""
    ways = {"every operator": None, "products, sums and pooling": quantised_onnx.PRODUCTS}
    return fastest(
        [
            _contender(
                quantised_onnx.network(problem, operators),
                note=f"quantize_static, QDQ, a scale a filter, {about}; before the clock",
            )
            for about, operators in ways.items()
        ],
        problem,
    )


def _contender(
    problem: onnx_model.OnnxModel,
    column: int | None = None,
    layout: str | None = "contiguous",
    note: str = "",
) -> Contender:
    """Inputs are bound without a copy; ONNX Runtime allocates the answer, as torch does."""
    session = _session(problem.data)
    binding = session.io_binding()
    for name, array in problem.inputs.items():
        binding.bind_cpu_input(name, array)
    answer = session.get_outputs()[0].name
    binding.bind_output(answer, "cpu")

    def run() -> Any:
        session.run_with_iobinding(binding)
        return binding

    def tensor(done: Any) -> Tensor:
        result = torch.from_numpy(done.get_outputs()[0].numpy())
        return result if column is None else result[:, column]

    return Contender(run, tensor, layout=layout, note=note)


def _session(data: bytes) -> Any:
    """With torch's number of threads. They spin while idle, as is its default: without that a small
    convolution took a quarter longer in one run. Whether they slow who comes next is not settled;
    the untimed call before each short sample is there for it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


PEER = Peer(
    "onnxruntime",
    ("onnxruntime", "onnx"),
    {
        "conv2d": conv2d,
        "roi_align": roi_align,
        "nms": nms,
        "int8_gemm": int8_gemm,
        "conv2d_int8": conv2d_int8,
        "model": model,
        "model_int8": model_int8,
    },
)
