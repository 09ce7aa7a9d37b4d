"""OpenVINO's CPU plugin on models of one operation, and on converted networks."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import quantised_onnx
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.fastest import fastest
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.model_int8 import ModelInt8
from cvperf.bench.problems.nms import Nms
from cvperf.bench.problems.roi_align import RoiAlign


def conv2d(problem: Convolution) -> Contender:
    from openvino import opset14 as ops

    p = problem
    image = _parameter(p.image)
    padding = list(p.padding)
    geometry = (list(p.stride), padding, padding, list(p.dilation))
    if p.groups == 1:
        answer = ops.convolution(image, _constant(p.weight), *geometry)
    else:
        weight = p.weight.reshape(p.groups, -1, *p.weight.shape[1:])
        answer = ops.group_convolution(image, _constant(weight), *geometry)
    if p.bias is not None:
        answer = ops.add(answer, _constant(p.bias.reshape(1, -1, 1, 1)))
    answer = _activations()[p.activation](answer)
    return _contender(
        _compiled(_network(answer, [image])),
        [p.image],
        note="weight packed before the clock; reordering the image to its blocked layout and back "
        "is inside",
    )


def _activations() -> Mapping[str | None, Callable[[Any], Any]]:
    import numpy as np
    from openvino import opset14 as ops

    return {
        None: lambda x: x,
        "relu": ops.relu,
        "relu6": lambda x: ops.clamp(x, 0.0, 6.0),
        "silu": ops.swish,
        "hardswish": ops.hswish,
        "sigmoid": ops.sigmoid,
        "leaky_relu": lambda x: ops.prelu(x, np.array([0.01], np.float32)),
    }


def roi_align(problem: RoiAlign) -> Contender:
    """torchvision's aligned is its "half_pixel_for_nn", not its "half_pixel"."""
    from openvino import opset14 as ops

    p = problem
    inputs = [p.features, p.boxes[:, 1:], p.boxes[:, 0].int()]
    parameters = [_parameter(tensor) for tensor in inputs]
    answer = ops.roi_align(
        *parameters,
        *p.output_size,
        p.sampling_ratio,
        p.spatial_scale,
        "avg",
        "half_pixel_for_nn" if p.aligned else "asymmetric",
    )
    return _contender(_compiled(_network(answer, parameters)), inputs)


def nms(problem: Nms) -> Contender:
    """Mirrored boxes: it wants (y1, x1, y2, x2), and the IoU of (x1, y1, x2, y2) is the same."""
    import numpy as np
    from openvino import opset14 as ops

    p = problem
    inputs = [p.boxes[None], p.scores[None, None]]
    parameters = [_parameter(tensor) for tensor in inputs]
    most, iou = np.array(len(p.boxes), np.int64), np.array(p.iou_threshold, np.float32)
    answer = ops.non_max_suppression(*parameters, most, iou, np.array(0.0, np.float32))
    return _contender(_compiled(_network(answer, parameters)), inputs, column=2, layout=None)


def model(problem: Model) -> Contender:
    """Raises Unsupported where OpenVINO cannot convert the module."""
    note = "converted and packed before the clock"
    return _contender(_compiled(_converted(problem)), list(problem.inputs), note=note)


def _converted(problem: Model) -> Any:
    import openvino

    p = problem
    _check_dtype(p.inputs[0])
    try:
        sizes = [list(tensor.shape) for tensor in p.inputs]
        return openvino.convert_model(p.module, example_input=p.inputs, input=sizes)
    except openvino.frontend.OpConversionFailure as error:
        raise Unsupported(f"openvino.convert_model: {str(error).splitlines()[0]}") from error


def model_int8(problem: ModelInt8) -> Contender:
    """Quantised by NNCF, or as ONNX by ONNX Runtime's tool: of those that are installed, what is
    faster here.

    Raises:
        Unsupported: neither is installed.
    """
    ways = {"nncf": _by_nncf, "onnxruntime": _by_onnx}
    here = {name: way for name, way in ways.items() if importlib.util.find_spec(name)}
    if not here:
        raise Unsupported(
            "it has no quantiser of its own; pip install nncf, or onnxruntime and onnx"
        )
    return fastest(
        [
            _contender(
                _compiled(way(problem)),
                list(problem.inputs),
                note=f"quantised by {name}, converted and packed before the clock",
            )
            for name, way in here.items()
        ],
        problem,
    )


def _by_nncf(problem: ModelInt8) -> Any:
    """Post-training quantisation with its defaults: symmetric, biases corrected."""
    import nncf

    images = [image.contiguous().numpy() for image in problem.calibration]
    nncf.set_log_level(logging.ERROR)
    network, inputs = _converted(problem), nncf.Dataset(images)
    with redirect_stdout(io.StringIO()):  # progress bars
        return nncf.quantize(network, inputs, target_device=nncf.TargetDevice.CPU)


def _by_onnx(problem: ModelInt8) -> Any:
    import openvino

    network = quantised_onnx.network(problem)
    return openvino.Core().read_model(network.data)


def int8_gemm(problem: Int8Gemm) -> Contender:
    raise Unsupported(
        "its int8 product starts from float32 inputs that it quantises itself (FakeQuantize); "
        "int8 inputs it converts, and multiplies in float32"
    )


def _parameter(tensor: Tensor) -> Any:
    """An input of the tensor's sizes and dtype."""
    from openvino import opset14 as ops

    _check_dtype(tensor)
    return ops.parameter(list(tensor.shape), tensor.numpy().dtype)


def _constant(tensor: Tensor) -> Any:
    from openvino import opset14 as ops

    return ops.constant(tensor.contiguous().numpy())


def _check_dtype(tensor: Tensor) -> None:
    """Raises Unsupported for floats that would be computed in float32 here."""
    if tensor.dtype in (torch.bfloat16, torch.float16):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise Unsupported(f"its plugin for the CPU takes {dtype} as a hint only: not offered")


def _network(answer: Any, parameters: list[Any]) -> Any:
    import openvino

    return openvino.Model([answer.output(0)], parameters, "problem")


def _compiled(network: Any) -> Any:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 where the CPU has it
    }
    return openvino.Core().compile_model(network, "CPU", settings)


def _contender(
    compiled: Any,
    inputs: list[Tensor],
    column: int | None = None,
    layout: str | None = "contiguous",
    note: str = "",
) -> Contender:
    """Inputs are shared without a copy; the answer is read from the request's own memory."""
    import openvino

    # A shared tensor does not keep the array: the closure below does.
    arrays = [tensor.contiguous().numpy() for tensor in inputs]
    request = compiled.create_infer_request()
    for index, array in enumerate(arrays):
        request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request, arrays

    def tensor(done: Any) -> Tensor:
        result = torch.from_numpy(done[0].get_output_tensor(0).data.copy())
        return result if column is None else result[:, column]

    return Contender(run, tensor, layout=layout, note=note)


PEER = Peer(
    "openvino",
    ("openvino",),
    {
        "conv2d": conv2d,
        "roi_align": roi_align,
        "nms": nms,
        "int8_gemm": int8_gemm,
        "model": model,
        "model_int8": model_int8,
    },
)
