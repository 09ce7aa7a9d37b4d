"""The convolutions that stand for those that ship: layers of ResNet-50 and MobileNetV2."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.conv2d_product import (
    forward_product,
    input_grad_product,
    weight_grad_product,
)
from cvperf.backends.gpu.model import Architecture
from cvperf.backends.gpu.shipped import Call, meta
from cvperf.backends.gpu.shipped_conv2d import LAYERS, tensors_of


def calls() -> Iterator[Call]:
    """Every call; the model's pick differs with the architecture, and some kinds are forced."""
    for name in LAYERS:
        yield _forward(name, torch.float16)
    for name in list(LAYERS)[1:8]:
        yield from _gradients(name, torch.float16)
    one, small = "3x3 128-128 28x28 n32", "3x3 512-512 7x7 n1"
    yield from _gradients(one, torch.float16, "tall")
    yield from _gradients(small, torch.float16, "small")
    yield _forward(one, torch.bfloat16)
    yield _forward(one, torch.float32)  # TensorFloat32, as torch has it
    yield from _gradients(one, torch.float32, "square")
    for name in (one, small):
        yield _forward(name, torch.float32, "precise")
    for name in ("1x1 64-256 56x56 n32", one, "7x7 3-64 224x224 s2 n32"):
        yield _int8(name, torch.uint8, 0)
    yield _int8(small, torch.int8, 0)
    yield _int8(one, torch.uint8, 7)  # padding has to be filled
    yield _int8("dw3x3 96 112x112 s2 n32", torch.uint8, 7)


def _forward(name: str, dtype: torch.dtype, algorithm: str = "automatic") -> Call:
    from cvperf.backends.triton import conv2d as backend
    from cvperf.backends.triton import conv2d_depthwise_plan as depthwise
    from cvperf.backends.triton import conv2d_plan as plan

    image, weight, residual, geometry = tensors_of(LAYERS[name], dtype)
    bias = meta(weight.shape[0], dtype=dtype)
    arguments = (image, weight, bias, *geometry, "relu", residual, None, algorithm)
    layer = Layer.of(image.shape, weight.shape, *geometry)
    kind = _kind(dtype, algorithm)

    sizes = dtype.itemsize, dtype.itemsize

    def share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.predicted_share(gpu, Gather(layer, *sizes, residual=True))
        product = forward_product(layer, kind, *sizes)
        return plan.predicted_share(gpu, (plan.FLAT if layer.flat else plan.FORWARD)[kind], product)

    about = f"{name} {_name(dtype)}" + (" precise" if algorithm == "precise" else "")
    return Call("conv2d", about, lambda: backend.conv2d(*arguments), share)


def _gradients(name: str, dtype: torch.dtype, forced: str | None = None) -> Iterator[Call]:
    from cvperf.backends.gpu.configs import forcing
    from cvperf.backends.triton import conv2d_depthwise_plan as depthwise
    from cvperf.backends.triton import conv2d_grad as backend
    from cvperf.backends.triton import conv2d_plan as plan

    image, weight, grad, geometry = tensors_of(LAYERS[name], dtype)
    layer = Layer.of(image.shape, weight.shape, *geometry)
    kind = _kind(dtype, "automatic")
    runs = {
        "conv2d_input_grad": lambda: backend.conv2d_input_grad(
            grad, weight, tuple(image.shape), *geometry
        ),
        "conv2d_weight_grad": lambda: backend.conv2d_weight_grad(
            grad, image, tuple(weight.shape), *geometry
        ),
    }

    size = dtype.itemsize

    def input_share(gpu: Architecture) -> float:
        if layer.depthwise:
            gather = Gather(layer, size, size, turned=True)
            return depthwise.predicted_share(gpu, gather)
        product = input_grad_product(layer, kind, size)
        return plan.predicted_share(gpu, plan.INPUT_GRAD[kind], product, forced)

    def weight_share(gpu: Architecture) -> float:
        if layer.depthwise:
            return depthwise.weight_grad_predicted_share(gpu, layer, size)
        space = (plan.FLAT_WEIGHT_GRAD if layer.flat else plan.WEIGHT_GRAD)[kind]
        product = weight_grad_product(layer, kind, size)
        return plan.predicted_share(gpu, space, product, forced)

    def under_force(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def forced_run() -> Tensor:
            with forcing(str(forced)):
                return run()

        return run if forced is None else forced_run

    about = f"{name} {_name(dtype)}" + ("" if forced is None else f" {forced}")
    for (op, run), share in zip(runs.items(), (input_share, weight_share), strict=True):
        yield Call(op, about, under_force(run), share)


def _int8(name: str, dtype: torch.dtype, zero: int) -> Call:
    from cvperf.backends.gpu.layouts import packed_conv2d_int8_shape
    from cvperf.backends.triton import conv2d_depthwise_plan as depthwise
    from cvperf.backends.triton import conv2d_int8 as backend
    from cvperf.backends.triton import conv2d_plan as plan

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
        product = forward_product(layer, "int8", 1, 1)
        space = (plan.FLAT if layer.flat else plan.FORWARD)["int8"]
        return plan.predicted_share(gpu, space, product)

    about = f"int8 {name} {_name(dtype)}" + (f", zero point {zero}" if zero else "")
    return Call("conv2d_int8", about, lambda: backend.conv2d_int8(*arguments), share)


def _kind(dtype: torch.dtype, algorithm: str) -> str:
    if dtype != torch.float32:
        return "half"
    return "float32" if algorithm == "precise" else "tf32"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
