"""torch eager: what a model runs today, and what cuDNN and oneDNN do behind it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.problems.conv2d import Convolution, InputGrad, WeightGrad
from cvperf.bench.problems.conv2d_int8 import Conv2dInt8
from cvperf.bench.problems.int4_linear import Int4Linear
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.pipeline import Pipeline
from cvperf.bench.problems.training import Training, gradients

ACTIVATIONS_IN_PLACE: Mapping[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": torch.relu_,
    "relu6": partial(F.relu6, inplace=True),
    "silu": partial(F.silu, inplace=True),
    "hardswish": partial(F.hardswish, inplace=True),
    "sigmoid": torch.sigmoid_,
    "leaky_relu": partial(F.leaky_relu, inplace=True),
}


@contextmanager
def without_tf32(benchmark: bool = False) -> Iterator[None]:
    """float32 products for everyone: cuDNN's default is TF32, with a mantissa of 10 bits.

    Args:
        benchmark: let cuDNN try its algorithms and keep the fastest.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=False):
        yield


@contextmanager
def inference(benchmark: bool = False) -> Iterator[None]:
    """:func:`without_tf32`, and no autograd."""
    with without_tf32(benchmark), torch.inference_mode():
        yield


def conv2d(problem: Convolution) -> Contender:
    """The convolution, then the activation in place: two calls, as in a model."""
    p = problem
    finish = ACTIVATIONS_IN_PLACE[p.activation]
    return Contender(
        lambda: finish(F.conv2d(p.image, p.weight, p.bias, *p.geometry)), context=inference
    )


def gradient(problem: InputGrad | WeightGrad, which: int) -> Contender:
    """One of (image, weight), and not the others: what autograd asks for where one is wanted."""
    p = problem
    wanted = [position == which for position in range(3)]
    bias_sizes = [p.shape.o]
    backward = torch.ops.aten.convolution_backward.default

    def run() -> Tensor:
        arguments = (*p.geometry[:3], False, [0, 0], p.groups, wanted)
        grad: Tensor = backward(p.grad, p.image, p.weight, bias_sizes, *arguments)[which]
        return grad

    return Contender(run, context=inference)


def int8_gemm(problem: Int8Gemm) -> Contender:
    if problem.a.is_cuda:
        raise Unsupported("torch._int_mm is cuBLASLt on a GPU: the peer cublaslt is this call")
    return int_mm(problem)


def int_mm(problem: Int8Gemm) -> Contender:
    """``torch._int_mm``, then the scales and the bias in one pass."""
    p = problem
    weight = p.b.T
    if not p.fused:
        return Contender(lambda: torch._int_mm(p.a, weight), context=inference)
    scale = p.scale_a * p.scale_b
    return Contender(
        lambda: torch.addcmul(p.bias, torch._int_mm(p.a, weight).float(), scale),
        context=inference,
        note="the scales are multiplied before the clock",
    )


def int4_linear(problem: Int4Linear) -> Contender:
    """The layer as it was before its weight was quantised: four times the bytes."""
    p = problem
    weight = p.expanded(p.shape.torch_dtype)
    return Contender(
        lambda: torch.nn.functional.linear(p.x, weight, p.bias),
        context=inference,
        note=f"a {p.shape.dtype} weight, expanded before the clock",
    )


def conv2d_int8(problem: Conv2dInt8) -> Contender:
    """``torch.ops.quantized.conv2d``: FBGEMM or oneDNN, as torch's "x86" engine picks."""
    p, quantized = problem, torch.ops.quantized
    if p.image.is_cuda:
        raise Unsupported("torch's quantized convolution runs on the CPU")
    if p.shape.activation not in (None, "relu"):
        raise Unsupported(f"torch.ops.quantized has no conv2d with {p.shape.activation} fused")
    zeros = torch.zeros(p.shape.o, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quantised tensors are to leave torch
        image = torch._make_per_tensor_quantized_tensor(p.image, p.scale_image, p.zero_point)
        weight = torch._make_per_channel_quantized_tensor(
            p.weight, p.scale_weight.double(), zeros, 0
        )
    geometry = (p.shape.stride, p.shape.padding, p.shape.dilation, p.shape.groups)
    packed = quantized.conv2d_prepack(weight, p.bias, *geometry)
    run = quantized.conv2d if p.shape.activation is None else quantized.conv2d_relu
    return Contender(
        lambda: run(image, packed, p.scale_output, p.zero_output),
        lambda answer: answer.int_repr(),
        context=inference,
        note="weight packed before the clock",
    )


def model(problem: Model) -> Contender:
    p = problem
    return Contender(lambda: p.module(*p.inputs), context=inference)


def training(problem: Training) -> Contender:
    module, step = problem.trainee()
    return Contender(step, lambda _: gradients(module), without_tf32)


def pipeline(problem: Pipeline) -> Contender:
    return Contender(problem.work.torch)


PEER = Peer(
    "torch",
    ("torch",),
    {
        "conv2d": conv2d,
        "conv2d_input_grad": partial(gradient, which=0),
        "conv2d_weight_grad": partial(gradient, which=1),
        "int8_gemm": int8_gemm,
        "conv2d_int8": conv2d_int8,
        "int4_linear": int4_linear,
        "model": model,
        "training": training,
        "pipeline": pipeline,
    },
    devices=("cpu", "cuda"),
)
