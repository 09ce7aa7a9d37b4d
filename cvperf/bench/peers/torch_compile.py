"""torch.compile: the same calls as torch eager, through inductor."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor_config
from torch.nn import functional as F

from cvperf.backends.reference import activate
from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.conv2d import Convolution
from cvperf.bench.problems.elementwise import BiasActivation
from cvperf.bench.problems.int8_gemm import Int8Gemm
from cvperf.bench.problems.model import Model
from cvperf.bench.problems.training import Training, gradients


class ConvolutionLayer(nn.Module):
    """A problem's convolution and activation as a module of one input."""

    def __init__(self, problem: Convolution) -> None:
        super().__init__()
        self.weight = nn.Parameter(problem.weight, requires_grad=False)
        self.bias = (
            None if problem.bias is None else nn.Parameter(problem.bias, requires_grad=False)
        )
        self.geometry = problem.geometry
        self.activation = problem.activation

    def forward(self, image: Tensor) -> Tensor:
        answer = F.conv2d(image, self.weight, self.bias, *self.geometry)
        return activate(self.activation, answer)


class DequantisedLinear(nn.Module):
    """``float32(a @ weight) * scale + bias`` of int8 a and weight."""

    def __init__(self, problem: Int8Gemm) -> None:
        super().__init__()
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.register_buffer("weight", problem.b.T)
        self.register_buffer("scale", problem.scale_a * problem.scale_b)
        self.register_buffer("bias", problem.bias)

    def forward(self, a: Tensor) -> Tensor:
        return torch._int_mm(a, self.weight).float() * self.scale + self.bias


class BiasActivationLayer(nn.Module):
    """``activation(x + bias + residual)``; the residual is the second input, if there is one."""

    def __init__(self, problem: BiasActivation) -> None:
        super().__init__()
        self.bias: Tensor
        self.register_buffer("bias", problem.bias.view(-1, 1, 1))
        self.activation = problem.activation

    def forward(self, x: Tensor, *residual: Tensor) -> Tensor:
        return activate(self.activation, sum(residual, x + self.bias))


def conv2d(problem: Convolution) -> Contender:
    return compiled(ConvolutionLayer(problem), problem.image)


def int8_gemm(problem: Int8Gemm) -> Contender:
    if not problem.fused:
        raise Unsupported("without scales to fuse, inductor calls the kernel of torch eager")
    return compiled(DequantisedLinear(problem), problem.a)


def bias_activation(problem: BiasActivation) -> Contender:
    residual = () if problem.residual is None else (problem.residual,)
    return compiled(BiasActivationLayer(problem), problem.x, *residual)


def model(problem: Model) -> Contender:
    """Raises Unsupported where dynamo cannot take the network as one graph."""
    try:
        return compiled(problem.module, *problem.inputs)
    except (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError) as error:
        reason = str(error).splitlines()[0]
        raise Unsupported(f"not one graph (fullgraph=True): {reason}") from error


def training(problem: Training) -> Contender:
    """Forward and backward compiled by the first step; the optimiser as everybody's."""
    module, step = problem.trainee(lambda module: torch.compile(_own_code(module), dynamic=False))
    return Contender(step, lambda _: gradients(module), note="compiled before the clock")


def compiled(module: nn.Module, *inputs: Tensor) -> Contender:
    """The module, compiled by its first call.

    Frozen: weights are constants, packed once, and an activation fuses into oneDNN's convolution.
    That is inductor's setting for inference; without it nothing fuses on the CPU.
    """
    run = torch.compile(_own_code(module), dynamic=False, fullgraph=True)
    # Not torch.compile's ``options``: dynamo, which comes first, reads the setting too.
    with inductor_config.patch(freezing=True), inference():
        run(*inputs)
    return Contender(
        lambda: run(*inputs),
        context=inference,
        note="inductor's freezing on; compiled and packed before the clock",
    )


_count = itertools.count()


def _own_code(module: nn.Module) -> Callable[..., Any]:
    """The module's call as a function whose code object nothing else has.

    Dynamo keeps what it compiled by code object, and gives up after eight: without this, the ninth
    convolution of a process would fail.
    """

    def call(*inputs: Tensor) -> Any:
        return module(*inputs)

    call.__code__ = call.__code__.replace(co_name=f"call_{next(_count)}")
    return call


PEER = Peer(
    "torch.compile",
    ("torch",),
    {
        "conv2d": conv2d,
        "int8_gemm": int8_gemm,
        "bias_activation": bias_activation,
        "model": model,
        "training": training,
    },
    devices=("cpu", "cuda"),
    unasked=lambda shape: shape.quick,  # it compiles for seconds a call, for minutes a network
)
