"""Problems as ONNX models of one node (and its activation): what ONNX Runtime and OpenCV load."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvperf.bench.contender import Unsupported
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.nms import Nms
from cvperf.bench.problems.roi_align import RoiAlign

OPSET = 18
IR_VERSION = 10  # the one of opsets 18 to 21; onnx writes its newest, which runtimes lag behind


@dataclass(frozen=True)
class OnnxModel:
    """A serialised model with one output, ``answer``, and its inputs by name, contiguous."""

    data: bytes
    inputs: Mapping[str, Any]
    """NumPy arrays."""


def convolution(problem: Convolution) -> OnnxModel:
    """``image`` [N, C, H, W] -> ``answer`` [N, O, OH, OW]; weight and bias are constants."""
    from onnx import helper

    p = problem
    constants = {"weight": p.weight}
    if p.bias is not None:
        constants["bias"] = p.bias
    node = helper.make_node(
        "Conv",
        ["image", *constants],
        ["sums" if p.activation else "answer"],
        strides=p.stride,
        pads=p.padding * 2,
        dilations=p.dilation,
        group=p.groups,
    )
    if p.activation == "relu6":
        constants |= {"low": torch.tensor(0.0), "high": torch.tensor(6.0)}
    return _model([node, *_activation(p.activation)], {"image": p.image}, constants)


def _activation(name: str | None) -> list[Any]:
    """Nodes from ``sums`` to ``answer``."""
    from onnx import helper

    if name is None:
        return []
    if name == "silu":
        sigmoid = helper.make_node("Sigmoid", ["sums"], ["gate"])
        return [sigmoid, helper.make_node("Mul", ["sums", "gate"], ["answer"])]
    if name == "leaky_relu":
        return [helper.make_node("LeakyRelu", ["sums"], ["answer"], alpha=0.01)]
    if name == "relu6":
        return [helper.make_node("Clip", ["sums", "low", "high"], ["answer"])]
    operators = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid"}
    return [helper.make_node(operators[name], ["sums"], ["answer"])]


def roi_align(problem: RoiAlign) -> OnnxModel:
    """``features``, ``boxes`` [K, 4] and ``batch`` int64 [K] -> ``answer`` [K, C, PH, PW].

    opset 16 gave names to torchvision's two conventions: aligned is "half_pixel".
    """
    from onnx import helper

    p = problem
    inputs = {"features": p.features, "boxes": p.boxes[:, 1:], "batch": p.boxes[:, 0].long()}
    node = helper.make_node(
        "RoiAlign",
        list(inputs),
        ["answer"],
        mode="avg",
        output_height=p.output_size[0],
        output_width=p.output_size[1],
        sampling_ratio=p.sampling_ratio,
        spatial_scale=p.spatial_scale,
        coordinate_transformation_mode="half_pixel" if p.aligned else "output_half_pixel",
    )
    return _model([node], inputs)


def nms(problem: Nms) -> OnnxModel:
    """``boxes`` [1, N, 4] and ``scores`` [1, 1, N] -> ``answer`` int64 [kept, 3], the box last.

    ONNX wants (y1, x1, y2, x2); (x1, y1, x2, y2) are the same boxes mirrored, with the same IoU.
    """
    from onnx import helper

    p = problem
    constants = {"most": torch.tensor([len(p.boxes)]), "iou": torch.tensor([p.iou_threshold])}
    inputs = {"boxes": p.boxes[None], "scores": p.scores[None, None]}
    node = helper.make_node("NonMaxSuppression", [*inputs, *constants], ["answer"])
    return _model([node], inputs, constants, (torch.int64, 2))


def int8_gemm(problem: Int8Gemm) -> OnnxModel:
    """``a`` int8 [M, K] -> ``answer`` int32 [M, N], or float32 with the scales and bias applied."""
    from onnx import helper

    p = problem
    constants = {"b": p.b.T}
    product = helper.make_node("MatMulInteger", ["a", "b"], ["sums" if p.fused else "answer"])
    if not p.fused:
        return _model([product], {"a": p.a}, constants, (torch.int32, 2))
    constants |= {"scale": p.scale_a * p.scale_b, "bias": p.bias}
    steps = [
        helper.make_node("Cast", ["sums"], ["float_sums"], to=_element(torch.float32)),
        helper.make_node("Mul", ["float_sums", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["answer"]),
    ]
    return _model([product, *steps], {"a": p.a}, constants, (torch.float32, 2))


def conv2d_int8(problem: Conv2dInt8) -> OnnxModel:
    """``image`` uint8 [N, C, H, W] -> ``answer`` uint8 [N, O, OH, OW]; ReLU is the saturation at 0.

    Raises:
        Unsupported: the activation is none that saturation makes.
    """
    from onnx import helper

    p = problem
    if p.shape.activation not in (None, "relu"):
        raise Unsupported(f"QLinearConv has no {p.shape.activation}")
    pads = list(p.shape.padding) * 2
    constants = {
        "image_scale": torch.tensor(p.scale_image),
        "image_zero": torch.tensor(p.zero_point, dtype=torch.uint8),
        "weight": p.weight,
        "weight_scale": p.scale_weight,
        "weight_zero": torch.zeros(p.shape.o, dtype=torch.int8),
        "scale": torch.tensor(p.scale_output),
        "zero": torch.tensor(p.zero_output, dtype=torch.uint8),
    }
    if p.integer_bias is not None:
        constants["bias"] = p.integer_bias
    node = helper.make_node(
        "QLinearConv",
        ["image", *constants],
        ["answer"],
        kernel_shape=list(p.shape.kernel),
        strides=list(p.shape.stride),
        pads=pads,
        dilations=list(p.shape.dilation),
        group=p.shape.groups,
    )
    return _model([node], {"image": p.image}, constants, (torch.uint8, 4))


def network(problem: Model) -> OnnxModel:
    """The network as torch exports it, batch norm folded; its inputs are ``input_0``, ...

    Raises:
        Unsupported: torch's exporter does not take it.
    """
    inputs = {f"input_{i}": tensor for i, tensor in enumerate(problem.inputs)}
    _check_dtypes(inputs)
    try:
        return OnnxModel(_exported(problem, list(inputs)), _arrays(inputs))
    except torch.onnx.errors.OnnxExporterError as error:
        raise Unsupported(f"torch.onnx.export: {str(error).splitlines()[0]}") from error


def _exported(problem: Model, names: list[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The newer exporter (dynamo=True) traces the same graph, and needs onnxscript.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            problem.module,
            problem.inputs,
            file,
            input_names=names,
            output_names=["answer"],
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read_bytes()


def _model(
    nodes: list[Any],
    inputs: Mapping[str, Tensor],
    constants: Mapping[str, Tensor] | None = None,
    answer: tuple[torch.dtype, int] = (torch.float32, 4),
) -> OnnxModel:
    """The nodes as a checked model. ``answer`` is a dtype and a rank; its sizes are inferred."""
    import onnx
    from onnx import helper, numpy_helper

    _check_dtypes(inputs)
    dtype, rank = answer
    graph = helper.make_graph(
        nodes,
        "problem",
        [
            helper.make_tensor_value_info(name, _element(tensor.dtype), tensor.shape)
            for name, tensor in inputs.items()
        ],
        [helper.make_tensor_value_info("answer", _element(dtype), [None] * rank)],
        [numpy_helper.from_array(array, name) for name, array in _arrays(constants or {}).items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return OnnxModel(model.SerializeToString(), _arrays(inputs))


def _check_dtypes(inputs: Mapping[str, Tensor]) -> None:
    """Raises Unsupported for floats that the runtimes would cast to float32 and back on the CPU."""
    for tensor in inputs.values():
        if tensor.dtype in (torch.bfloat16, torch.float16):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise Unsupported(f"a {dtype} ONNX model would be computed in float32: not offered")


def _arrays(inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.cpu().contiguous().numpy() for name, tensor in inputs.items()}


def _element(dtype: torch.dtype) -> int:
    """ONNX's number for a dtype."""
    from onnx import TensorProto

    numbers = {
        torch.float32: TensorProto.FLOAT,
        torch.int64: TensorProto.INT64,
        torch.int32: TensorProto.INT32,
        torch.int8: TensorProto.INT8,
        torch.uint8: TensorProto.UINT8,
    }
    return int(numbers[dtype])
