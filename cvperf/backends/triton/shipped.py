"""The calls that stand for everything that ships: what is compiled and checked without a GPU.

Each op has a function that yields calls on ``meta`` tensors; together they launch every shipped
configuration. The sizes are those of real layers, since they decide how a kernel is specialised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call that ships.

    Attributes:
        op: the op.
        name: what is special about it; (op, name) is unique.
        run: makes the call; within ``offline.compiling``.
    """

    op: str
    name: str
    run: Callable[[], Any]


def calls() -> Iterator[Call]:
    """Every call of every op."""
    yield from int8_gemm()
    yield from conv2d()
    yield from conv2d_int8()


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def int8_gemm() -> Iterator[Call]:
    from cvperf.backends.triton import int8_gemm as backend
    from cvperf.backends.triton.layouts import packed_int8_shape

    def call(name: str, m: int, k: int, n: int, out: torch.dtype) -> Call:
        a, b = meta(m, k, dtype=torch.int8), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        scale_a, scale_b = (None, None) if out == torch.int32 else (meta(m), meta(n))
        arguments = (a, b, n, scale_a, scale_b, None, None, None, out)
        return Call("int8_gemm", name, lambda: backend.int8_gemm(*arguments))

    yield call("4096 cubed, exact sums", 4096, 4096, 4096, torch.int32)
    yield call("4096 cubed, scaled", 4096, 4096, 4096, torch.bfloat16)


# Layers of ResNet-50 and MobileNetV2: images, channels, height and width, filters, kernel, stride,
# groups.
_LAYERS = {
    "1x1 64-256 56x56 n32": (32, 64, 56, 256, 1, 1, 1),
    "1x1 1024-256 14x14 n32": (32, 1024, 14, 256, 1, 1, 1),
    "3x3 128-128 28x28 n32": (32, 128, 28, 128, 3, 1, 1),
    "3x3 256-256 28x28 s2 n32": (32, 256, 28, 256, 3, 2, 1),
    "3x3 512-512 7x7 n1": (1, 512, 7, 512, 3, 1, 1),
    "7x7 3-64 224x224 s2 n32": (32, 3, 224, 64, 7, 2, 1),
    "dw3x3 96 112x112 s2 n32": (32, 96, 112, 96, 3, 2, 96),
    "dw5x5 672 14x14 n1": (1, 672, 14, 672, 5, 1, 672),
}


def _tensors(
    layer: tuple[int, ...], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, tuple[Any, ...]]:
    """Image, weight, what is like the output, and the geometry of a layer."""
    n, c, size, o, kernel, stride, groups = layer
    out = (size + kernel // 2 * 2 - kernel) // stride + 1
    image, residual = (
        meta(n, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        for channels, side in ((c, size), (o, out))
    )
    weight = meta(o, c // groups, kernel, kernel, dtype=dtype)
    return image, weight, residual, ((stride,) * 2, (kernel // 2,) * 2, (1, 1), groups)


def conv2d() -> Iterator[Call]:
    from cvperf.backends.triton import conv2d as backend
    from cvperf.backends.triton import conv2d_grad

    def forward(name: str, layer: tuple[int, ...], dtype: torch.dtype, algorithm: str) -> Call:
        image, weight, residual, geometry = _tensors(layer, dtype)
        bias = meta(weight.shape[0], dtype=dtype)
        call = (image, weight, bias, *geometry, "relu", residual, None, algorithm)
        return Call("conv2d", f"{name} {dtype} {algorithm}", lambda: backend.conv2d(*call))

    def gradients(name: str, layer: tuple[int, ...], dtype: torch.dtype) -> Iterator[Call]:
        image, weight, grad, geometry = _tensors(layer, dtype)
        inputs = (grad, weight, tuple(image.shape), *geometry)
        weights = (grad, image, tuple(weight.shape), *geometry)
        about = f"{name} {dtype}"
        yield Call("conv2d_input_grad", about, lambda: conv2d_grad.conv2d_input_grad(*inputs))
        yield Call("conv2d_weight_grad", about, lambda: conv2d_grad.conv2d_weight_grad(*weights))

    for name, layer in _LAYERS.items():
        yield forward(name, layer, torch.float16, "automatic")
    for name in list(_LAYERS)[1:7]:
        yield from gradients(name, _LAYERS[name], torch.float16)
    one, small = "3x3 128-128 28x28 n32", "3x3 512-512 7x7 n1"
    yield forward(one, _LAYERS[one], torch.bfloat16, "automatic")
    yield forward(one, _LAYERS[one], torch.float32, "automatic")  # TensorFloat32, as torch has it
    yield from gradients(one, _LAYERS[one], torch.float32)
    for name in (one, small):
        yield forward(name, _LAYERS[name], torch.float32, "precise")


def conv2d_int8() -> Iterator[Call]:
    from cvperf.backends.triton import conv2d_int8 as backend
    from cvperf.backends.triton.layouts import packed_conv2d_int8_shape

    def call(name: str, dtype: torch.dtype, zero: int) -> Call:
        image, weight, residual, (stride, padding, dilation, groups) = _tensors(
            _LAYERS[name], dtype
        )
        packed = meta(*packed_conv2d_int8_shape(weight.shape, groups), dtype=torch.int8)
        filters = weight.shape[0]
        arguments = (
            *(image, packed, weight.shape, groups, 0.02, meta(filters), zero, meta(filters)),
            *(stride, padding, dilation, "relu", residual, 0.05, 7, 0.07, 4, dtype),
        )
        about = f"{name} {dtype} zero point {zero}"
        return Call("conv2d_int8", about, lambda: backend.conv2d_int8(*arguments))

    for name in ("1x1 64-256 56x56 n32", "3x3 128-128 28x28 n32", "7x7 3-64 224x224 s2 n32"):
        yield call(name, torch.uint8, 0)
    yield call("3x3 512-512 7x7 n1", torch.int8, 0)
    yield call("3x3 128-128 28x28 n32", torch.uint8, 7)  # padding has to be filled
    yield call("dw3x3 96 112x112 s2 n32", torch.uint8, 7)
