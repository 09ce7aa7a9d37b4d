"""cvperf itself, in the same form as its peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

import cvperf
from cvperf import ops
from cvperf.backends.registry import backends, prefer
from cvperf.bench.contender import Contender
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.conv2d import Convolution, InputGrad, WeightGrad
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8
from cvperf.bench.problems.elementwise import (
    MEAN,
    STD,
    BiasActivation,
    Dequantize,
    NormalizeImage,
    Quantize,
)
from cvperf.bench.problems.int4_linear import Int4Linear
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.model_int8 import ModelInt8
from cvperf.bench.problems.nms import BatchedNms, Nms, NmsPadded, SoftNms
from cvperf.bench.problems.paste_masks import PasteMasks
from cvperf.bench.problems.pipeline import Pipeline
from cvperf.bench.problems.roi_align import MultiscaleRoiAlign, RoiAlign, RoiAlignBackward
from cvperf.bench.problems.training import Training, gradients


@contextmanager
def drop_in() -> Iterator[None]:
    """Inference, torch's and torchvision's ops served by cvperf."""
    with inference(), cvperf.use():
        yield


def conv2d(problem: Convolution) -> Contender:
    p = problem
    if not p.image.is_contiguous(memory_format=torch.channels_last):
        return Contender(
            lambda: ops.conv2d(p.image, p.weight, p.bias, *p.geometry, activation=p.activation),
            context=inference,
        )
    packed = ops.pack_conv2d(p.weight, p.groups)
    return Contender(
        lambda: ops.conv2d(p.image, packed, p.bias, *p.geometry, activation=p.activation),
        context=inference,
        note="weight packed before the clock",
    )


def conv2d_input_grad(problem: InputGrad) -> Contender:
    p = problem
    run = torch.ops.cvperf.conv2d_input_grad.default
    return Contender(lambda: run(p.grad, p.weight, p.image.shape, *p.geometry), context=inference)


def conv2d_weight_grad(problem: WeightGrad) -> Contender:
    p = problem
    run = torch.ops.cvperf.conv2d_weight_grad.default
    return Contender(lambda: run(p.grad, p.image, p.weight.shape, *p.geometry), context=inference)


def roi_align(problem: RoiAlign) -> Contender:
    p = problem
    arguments = (p.output_size, p.spatial_scale, p.sampling_ratio, p.aligned)
    return Contender(lambda: ops.roi_align(p.features, p.boxes, *arguments), context=inference)


def roi_align_backward(problem: RoiAlignBackward) -> Contender:
    p = problem
    run = torch.ops.cvperf.roi_align_backward.default
    scale, height, width, ratio, aligned = p.arguments
    size = p.features.shape
    return Contender(
        lambda: run(p.grad, p.boxes, scale, height, width, *size, ratio, aligned),
        context=inference,
    )


def multiscale_roi_align(problem: MultiscaleRoiAlign) -> Contender:
    p = problem
    arguments = (p.output_size, p.scales, p.sampling_ratio)
    return Contender(
        lambda: ops.multiscale_roi_align(p.features, p.boxes, *arguments), context=inference
    )


def nms(problem: Nms) -> Contender:
    p = problem
    return Contender(lambda: ops.nms(p.boxes, p.scores, p.iou_threshold), context=inference)


def batched_nms(problem: BatchedNms) -> Contender:
    p = problem
    return Contender(
        lambda: ops.batched_nms(p.boxes, p.scores, p.idxs, p.iou_threshold), context=inference
    )


def nms_padded(problem: NmsPadded) -> Contender:
    p = problem
    return Contender(
        lambda: ops.nms_padded(p.boxes, p.scores, p.iou_threshold, p.max_output),
        lambda answer: p.numbered(answer[0]),
        context=inference,
    )


def soft_nms(problem: SoftNms) -> Contender:
    p, s = problem, problem.shape
    settings: dict[str, Any] = {
        "method": s.method, "iou_threshold": s.iou_threshold, "sigma": s.sigma,
        "score_threshold": s.score_threshold,
    }  # fmt: skip
    return Contender(
        lambda: ops.soft_nms(p.boxes, p.scores, **settings),
        lambda answer: p.scattered(*answer),
        context=inference,
    )


def int8_gemm(problem: Int8Gemm) -> Contender:
    p = problem
    packed = ops.pack_int8(p.b.T)
    dequantise = {
        "scale_a": p.scale_a, "scale_b": p.scale_b, "bias": p.bias, "out_dtype": torch.float32
    }  # fmt: skip
    keywords: dict[str, Any] = dequantise if p.fused else {}
    return Contender(
        lambda: ops.int8_gemm(p.a, packed, **keywords),
        context=inference,
        note="b packed before the clock",
    )


def int4_linear(problem: Int4Linear) -> Contender:
    p = problem
    return Contender(
        lambda: ops.int4_linear(p.x, p.weight, p.scale, bias=p.bias), context=inference
    )


def conv2d_int8(problem: Conv2dInt8) -> Contender:
    p = problem
    packed = ops.pack_conv2d_int8(p.weight, p.shape.groups)
    keywords: dict[str, Any] = {
        "scale_input": p.scale_image, "zero_point_input": p.zero_point,
        "scale_weight": p.scale_weight, "bias": p.bias,
        "stride": p.shape.stride, "padding": p.shape.padding, "dilation": p.shape.dilation,
        "activation": p.shape.activation,
        "scale_output": p.scale_output, "zero_point_output": p.zero_output,
    }  # fmt: skip
    return Contender(
        lambda: ops.conv2d_int8(p.image, packed, **keywords),
        context=inference,
        note="weight packed before the clock",
    )


def paste_masks(problem: PasteMasks) -> Contender:
    p = problem
    return Contender(
        lambda: ops.paste_masks(p.masks, p.boxes, p.image_size, p.threshold), context=inference
    )


def bias_activation(problem: BiasActivation) -> Contender:
    p = problem
    return Contender(
        lambda: ops.bias_activation(p.x, p.bias, p.residual, p.activation), context=inference
    )


def quantize(problem: Quantize) -> Contender:
    p = problem
    return Contender(
        lambda: ops.quantize(p.x, p.scale, p.zero_point, axis=p.axis), context=inference
    )


def dequantize(problem: Dequantize) -> Contender:
    p, dtype = problem, problem.shape.torch_dtype
    return Contender(
        lambda: ops.dequantize(p.q, p.scale, p.zero_point, axis=p.axis, dtype=dtype),
        context=inference,
    )


def normalize_image(problem: NormalizeImage) -> Contender:
    p, s = problem, problem.shape
    keywords: dict[str, Any] = {
        "layout": s.order, "dtype": s.torch_dtype, "memory_format": s.memory_format
    }  # fmt: skip
    return Contender(lambda: ops.normalize_image(p.image, MEAN, STD, **keywords), context=inference)


def model(problem: Model) -> Contender:
    p = problem
    if any(tensor.device.type != "cpu" for tensor in p.inputs):
        return Contender(lambda: p.module(*p.inputs), context=drop_in, note="in cvperf.use()")
    fast = cvperf.optimize(p.module, example_inputs=p.inputs)
    return Contender(lambda: fast(*p.inputs), context=inference, note="cvperf.optimize()")


def model_int8(problem: ModelInt8) -> Contender:
    p = problem
    config = cvperf.Int8Config(calibration=p.calibration, weight_bits=p.weight_bits)
    fast = cvperf.optimize(p.module, config, example_inputs=p.inputs)
    note = f"cvperf.optimize(), cvperf.Int8Config, weights of {p.weight_bits} bits"
    return Contender(lambda: fast(*p.inputs), context=inference, note=note)


def training(problem: Training) -> Contender:
    module, step = problem.trainee()
    # As `cvperf train` does. In a process of our own: in one for all it holds for the peers too.
    on_cpu = next(module.parameters()).device.type == "cpu"
    kept = on_cpu and cvperf.keep_freed_memory()
    note = "in cvperf.use(), freed memory kept" if kept else "in cvperf.use()"
    return Contender(step, lambda _: gradients(module), cvperf.use, note=note)


def pipeline(problem: Pipeline) -> Contender:
    work = problem.work
    if work.cvperf is not None:
        return Contender(work.cvperf)
    return Contender(work.torch, context=cvperf.use, note="in cvperf.use()")


def _makers() -> dict[str, Any]:
    makers = (
        *(conv2d, conv2d_input_grad, conv2d_weight_grad),
        *(roi_align, roi_align_backward, multiscale_roi_align),
        *(nms, batched_nms, nms_padded, soft_nms),
        *(int8_gemm, conv2d_int8, int4_linear),
        *(paste_masks, bias_activation, quantize, dequantize, normalize_image),
        *(model, model_int8, training, pipeline),
    )
    return {maker.__name__: maker for maker in makers}


OURS = Peer("cvperf", ("cvperf",), _makers(), devices=("cpu", "cuda"))


def contenders(device: str) -> tuple[Peer, ...]:
    """Us on a device: one contender on the CPU; on CUDA one for each backend, to compare them."""
    if device == "cpu":
        return (OURS,)
    names = dict.fromkeys(backend.name for backend in backends() if backend.device == device)
    return tuple(_on(name, device) for name in names)


def _on(backend: str, device: str) -> Peer:
    def make(problem: Any) -> Contender:
        made = OURS.contender(problem)

        @contextmanager
        def context() -> Iterator[None]:
            with made.context(), prefer(backend):
                yield

        return replace(made, context=context)

    served = [one.op for one in backends() if one.name == backend and one.op in OURS.makers]
    return Peer(f"{OURS.name} {backend}", OURS.packages, dict.fromkeys(served, make), (device,))
