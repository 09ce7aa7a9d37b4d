"""The gradients of a convolution in Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cpu.conv2d import check_convolution_grad, window_of
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import Layer, vector_of
from cvperf.backends.gpu.conv2d_product import input_grad_product, weight_grad_product
from cvperf.backends.gpu.conv2d_shared import (
    NO_EPILOGUE,
    Output,
    channels_last,
    layer_of,
    taps_first,
)
from cvperf.backends.gpu.machine import machine
from cvperf.backends.registry import convolution_format
from cvperf.backends.triton import conv2d_depthwise as depthwise
from cvperf.backends.triton.conv2d_plan import (
    FLAT_WEIGHT_GRAD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    run_best,
)
from cvperf.backends.triton.conv2d_shared import PRECISION, kind_of, reduce
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import conv2d_grad as kernels


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
    grad = channels_last(grad)
    if layer.depthwise:
        rows = taps_first(weight)
        depthwise.convolve(layer, grad, rows, output.written, turned=True)
    else:
        _input_grad(layer, grad, weight, output.written)
    return output.finished()


def _input_grad(layer: Layer, grad: Tensor, weight: Tensor, output: Tensor) -> None:
    kind = kind_of(grad.dtype)
    # Tensor cores take both operands of tf32 only with the sum along memory: a copy of the weight.
    k_major = grad.dtype == torch.float32
    if k_major:
        each = weight.unflatten(0, (layer.groups, layer.filters)).permute(0, 2, 3, 4, 1)
        weight = each.contiguous()  # [groups, C / groups, kh, kw, O / groups]
    else:
        weight = channels_last(weight)
    vector = vector_of(layer.channels, grad.element_size())
    out_vector = vector_of(layer.filters, grad.element_size())
    tap_steps = [
        step // math.gcd(step, apart)
        for step, apart in zip(layer.stride, layer.dilation, strict=True)
    ]

    def run(config: Config, splits: int) -> None:
        partial = splits > 1
        target = output
        if partial:
            shape = (splits, output.numel())
            target = torch.empty(shape, dtype=torch.float32, device=grad.device)
        tiles = -(-layer.class_pixels // config["BM"]) * -(-layer.channels // config["BN"])
        launch(
            kernels.conv2d_input_grad,
            (tiles, splits, layer.classes * layer.groups),
            *(grad, weight, target, layer.images, layer.height, layer.width),
            *(layer.out_height, layer.out_width, layer.channels // vector),
            *(layer.filters // out_vector, layer.groups, *layer.stride, *layer.padding),
            *(*layer.dilation, *tap_steps),
            KH=layer.kernel[0],
            KW=layer.kernel[1],
            VECTOR=vector,
            OUT_VECTOR=out_vector,
            POINTWISE=layer.pointwise,
            EVEN=layer.filters % config["BK"] == 0,
            K_MAJOR=k_major,
            PRECISION=PRECISION[kind],
            PARTIAL=partial,
            WIDE=layer.wide,
            config=config,
        )
        if partial:
            channels = layer.channels * layer.groups
            reduce(target, output, output.numel() // channels, channels, NO_EPILOGUE)

    product = input_grad_product(layer, kind, grad.element_size())
    call = f"{layer.kernel} {layer.stride} {grad.dtype}"
    run_best(machine(grad.device), INPUT_GRAD[kind], product, call, run)


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
    grad, image = channels_last(grad), channels_last(image)
    if layer.depthwise:
        depthwise.weight_grad(layer, grad, image, output.written)
    else:
        _weight_grad(layer, grad, image, output.written)
    return output.finished()


def _weight_grad(layer: Layer, grad: Tensor, image: Tensor, output: Tensor) -> None:
    kind = kind_of(grad.dtype)
    vector = vector_of(layer.channels, grad.element_size())
    out_vector = vector_of(layer.filters, grad.element_size())
    terms = layer.taps * layer.channels
    filters = layer.filters * layer.groups

    def run(config: Config, splits: int) -> None:
        target = output
        if splits > 1:
            shape = (splits, filters, terms)
            target = torch.empty(shape, dtype=torch.float32, device=grad.device)
        columns = -(-terms // config["BN"])
        if not layer.flat:
            columns = -(-layer.channels // config["BN"]) * layer.taps
        launch(
            kernels.conv2d_weight_grad,
            (-(-layer.filters // config["BM"]) * columns, splits, layer.groups),
            *(grad, image, target, layer.pixels, layer.height, layer.width),
            *(layer.out_height, layer.out_width, layer.channels // vector),
            *(layer.filters // out_vector, layer.groups, *layer.stride, *layer.padding),
            *layer.dilation,
            KH=layer.kernel[0],
            KW=layer.kernel[1],
            VECTOR=vector,
            OUT_VECTOR=out_vector,
            POINTWISE=layer.pointwise,
            FLAT=layer.flat,
            PRECISION=PRECISION[kind],
            WIDE=layer.wide,
            config=config,
        )
        if splits > 1:
            reduce(target, output, filters, terms, NO_EPILOGUE)

    product = weight_grad_product(layer, kind, grad.element_size())
    call = f"{layer.kernel} {layer.stride} {grad.dtype}"
    space = (FLAT_WEIGHT_GRAD if layer.flat else WEIGHT_GRAD)[kind]
    run_best(machine(grad.device), space, product, call, run)
