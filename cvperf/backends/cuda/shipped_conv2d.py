"""The convolutions that stand for those that ship in CUDA C++."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cvperf.backends.cuda import conv2d, conv2d_grad, conv2d_int8
from cvperf.backends.cuda import conv2d_depthwise_plan as depthwise
from cvperf.backends.cuda import conv2d_plan as plan
from cvperf.backends.gpu.configs import forcing
from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.layouts import packed_conv2d_int8_shape
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.shipped import Call, meta
from cvperf.backends.gpu.shipped_conv2d import LAYERS, tensors_of

ONE, SMALL, FIRST = "3x3 128-128 28x28 n32", "3x3 512-512 7x7 n1", "7x7 3-64 224x224 s2 n32"
DEPTHWISE = [name for name in LAYERS if name.startswith("dw")]


def calls() -> Iterator[Call]:
    """Every call; the model's pick differs with the architecture, and some kinds are forced."""
    for name in LAYERS:
        yield _forward(name, torch.float16)
    for kind in plan.FORWARD["half"][True].shipped[80]:
        yield _forward(ONE, torch.bfloat16, kind)
        yield from _gradients(ONE, torch.float16, kind)
    yield from _gradients(FIRST, torch.float16)
    yield from _gradients("3x3 256-256 28x28 s2 n32", torch.bfloat16)
    for name in DEPTHWISE:
        yield from _gradients(name, torch.float16)
    for kind in plan.FORWARD["int8"][True].shipped[80]:
        yield _int8(ONE, torch.uint8, 7, kind)  # padding has to be filled
    yield _int8(SMALL, torch.int8, 0)
    yield _int8(FIRST, torch.uint8, 0)
    yield _int8("dw3x3 96 112x112 s2 n32", torch.uint8, 7)


def _name(about: str, dtype: torch.dtype, forced: str | None) -> str:
    name = f"{about} {str(dtype).removeprefix('torch.')}"
    return name if forced is None else f"{name} {forced}"


def _under_force(forced: str | None, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def forced_run() -> Tensor:
        with forcing(str(forced)):
            return run()

    return run if forced is None else forced_run


def _forward(name: str, dtype: torch.dtype, forced: str | None = None) -> Call:
    image, weight, residual, geometry = tensors_of(LAYERS[name], dtype)
    arguments = (image, weight, meta(weight.shape[0], dtype=dtype), *geometry, "relu", residual)
    layer = Layer.of(image.shape, weight.shape, *geometry)

    def share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.predicted_share(gpu, Gather(layer, 2, 2, residual=True))
        return plan.predicted_forward_share(gpu, layer, "half", 2, forced)

    run = _under_force(forced, lambda: conv2d.conv2d(*arguments))
    return Call("conv2d", _name(name, dtype, forced), run, share)


def _gradients(name: str, dtype: torch.dtype, forced: str | None = None) -> Iterator[Call]:
    image, weight, grad, geometry = tensors_of(LAYERS[name], dtype)
    layer = Layer.of(image.shape, weight.shape, *geometry)
    about = _name(name, dtype, forced)

    def input_share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.predicted_share(gpu, Gather(layer, 2, 2, turned=True))
        return plan.predicted_grad_share(gpu, layer, "input", forced)

    def weight_share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.weight_grad_predicted_share(gpu, layer, 2)
        return plan.predicted_grad_share(gpu, layer, "weight", forced)

    sizes = tuple(image.shape), tuple(weight.shape)
    run = _under_force(
        forced, lambda: conv2d_grad.conv2d_input_grad(grad, weight, sizes[0], *geometry)
    )
    yield Call("conv2d_input_grad", about, run, input_share)
    run = _under_force(
        forced, lambda: conv2d_grad.conv2d_weight_grad(grad, image, sizes[1], *geometry)
    )
    yield Call("conv2d_weight_grad", about, run, weight_share)


def _int8(name: str, dtype: torch.dtype, zero: int, forced: str | None = None) -> Call:
    image, weight, residual, geometry = tensors_of(LAYERS[name], dtype)
    stride, padding, dilation, groups = geometry
    packed = meta(*packed_conv2d_int8_shape(weight.shape, groups), dtype=torch.int8)
    filters = weight.shape[0]
    arguments = (
        *(image, packed, weight.shape, groups, 0.02, meta(filters), zero, meta(filters)),
        *(stride, padding, dilation, "relu", residual, 0.05, 7, 0.07, 4, dtype),
    )
    layer = Layer.of(image.shape, weight.shape, *geometry)

    def share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.predicted_share(gpu, Gather(layer, 1, 1, residual=True))
        return plan.predicted_forward_share(gpu, layer, "int8", 1, forced)

    about = _name(f"int8 {name}", dtype, forced) + (f", zero point {zero}" if zero else "")
    run = _under_force(forced, lambda: conv2d_int8.conv2d_int8(*arguments))
    return Call("conv2d_int8", about, run, share)
