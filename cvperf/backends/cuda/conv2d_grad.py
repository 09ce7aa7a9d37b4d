"""The gradients of a convolution in CUDA C++."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import check_convolution_grad, window_of
from cvperf.backends.cuda import conv2d_depthwise as depthwise
from cvperf.backends.cuda.conv2d_plan import (
    GROUP,
    INPUT_GRAD,
    WEIGHT_GRAD,
    copied_at_once,
    input_grad_product,
    run_best,
    up_to_copies,
    weight_grad_product,
    with_copies,
)
from cvperf.backends.cuda.conv2d_shared import (
    NAMES,
    aligned,
    padded,
    reduce,
)
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.mainloop import shared_bytes
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.conv2d_shared import NO_EPILOGUE, Output, layer_of, taps_first
from cvperf.backends.gpu.machine import machine
from cvperf.backends.registry import convolution_format


def conv2d_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    window = window_of(weight.shape, stride, padding, dilation)
    check_convolution_grad(grad, input_size, weight.shape, window, groups)
    layer = layer_of(input_size, weight.shape, stride, padding, dilation, groups)
    output = Output(input_size, grad.dtype, convolution_format(grad, weight), grad.device)
    if layer.depthwise:
        rows = taps_first(weight)
        depthwise.convolve(layer, aligned(grad), rows, output.written, turned=True)
    else:
        _input_grad(layer, padded(grad, groups), padded(weight), output.written)
    return output.finished()


def _vector(layer: Layer) -> int:
    """Numbers that copies read of both channels and filters."""
    sizes = up_to_copies(layer.channels), up_to_copies(layer.filters)
    return copied_at_once(math.gcd(*sizes), 2)


def _input_grad(layer: Layer, grad: Tensor, weight: Tensor, output: Tensor) -> None:
    """Grad and weight are padded for copies; the output is not."""
    vector = _vector(layer)
    tap_steps = [
        step // math.gcd(step, apart)
        for step, apart in zip(layer.stride, layer.dilation, strict=True)
    ]

    def run(config: Config, splits: int) -> None:
        target = output
        if splits > 1:
            shape = (splits, output.numel())
            target = torch.empty(shape, dtype=torch.float32, device=grad.device)
        tiles = -(-layer.class_pixels // config["BM"]) * -(-layer.channels // config["BN"])
        name = f"conv2d_input_grad<{NAMES[grad.dtype]}, {vector}, {config.template}>"
        launch(
            Kernel("conv2d_grad.cu", name),
            (tiles, splits, layer.classes * layer.groups),
            32 * config.num_warps,
            *(grad, weight, target, layer.images, layer.height, layer.width),
            *(layer.out_height, layer.out_width, layer.channels, weight.shape[1]),
            *(layer.filters, grad.shape[1] // layer.groups, layer.groups, *layer.kernel),
            *(*layer.stride, *layer.padding, *layer.dilation, *tap_steps, GROUP),
            shared_bytes=shared_bytes(2, config),
        )
        if splits > 1:
            channels = layer.channels * layer.groups
            reduce(target, output, output.numel() // channels, channels, NO_EPILOGUE)

    call = f"{layer.kernel} {layer.stride} {grad.dtype}"
    space = INPUT_GRAD[vector == 8]
    run_best(machine(grad.device), space, input_grad_product(layer), call, run)


def conv2d_weight_grad(
    grad: Tensor,
    image: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    window = window_of(weight_size, stride, padding, dilation)
    check_convolution_grad(grad, image.shape, weight_size, window, groups)
    layer = layer_of(image.shape, weight_size, stride, padding, dilation, groups)
    output = Output(weight_size, grad.dtype, convolution_format(image, grad), grad.device)
    if layer.depthwise:
        depthwise.weight_grad(layer, aligned(grad), aligned(image), output.written)
        return output.finished()
    wide = with_copies(layer)
    target = output.written
    if wide.channels != layer.channels:
        shape = (target.shape[0], wide.channels, *layer.kernel)
        target = torch.empty(
            shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
        )
    _weight_grad(wide, padded(grad, groups), padded(image, groups), target)
    if target is not output.written:
        output.written.copy_(target[:, : layer.channels])
    return output.finished()


def _weight_grad(layer: Layer, grad: Tensor, image: Tensor, output: Tensor) -> None:
    """All are padded for copies, but the output's filters."""
    vector = _vector(layer)
    terms, filters = layer.taps * layer.channels, layer.filters * layer.groups

    def run(config: Config, splits: int) -> None:
        target = output
        if splits > 1:
            shape = (splits, filters, terms)
            target = torch.empty(shape, dtype=torch.float32, device=grad.device)
        tiles = -(-layer.filters // config["BM"]) * -(-terms // config["BN"])
        name = f"conv2d_weight_grad<{NAMES[grad.dtype]}, {vector}, {config.template}>"
        launch(
            Kernel("conv2d_grad.cu", name),
            (tiles, splits, layer.groups),
            32 * config.num_warps,
            *(grad, image, target, layer.images, layer.height, layer.width),
            *(layer.out_height, layer.out_width, layer.channels, layer.filters),
            *(grad.shape[1] // layer.groups, *layer.kernel, *layer.stride, *layer.padding),
            *(*layer.dilation, GROUP),
            shared_bytes=shared_bytes(2, config),
        )
        if splits > 1:
            reduce(target, output, filters, terms, NO_EPILOGUE)

    call = f"{layer.kernel} {layer.stride} {grad.dtype}"
    space = WEIGHT_GRAD[vector == 8]
    run_best(machine(grad.device), space, weight_grad_product(layer), call, run)
