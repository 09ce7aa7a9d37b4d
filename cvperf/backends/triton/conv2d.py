"""Convolution in Triton, forward.

The kernels read channels last. An NCHW image costs a copy, and so does its NCHW output: read as it
is, a block of channels would be one number from each of as many lines of memory, and none of it
could be copied to shared memory 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton.language as tl
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import Layer, vector_of
from cvperf.backends.gpu.conv2d_product import forward_product
from cvperf.backends.gpu.conv2d_shared import (
    NO_EPILOGUE,
    Epilogue,
    Output,
    channels_last,
    layer_of,
    taps_first,
)
from cvperf.backends.gpu.machine import machine
from cvperf.backends.registry import convolution_format
from cvperf.backends.triton.conv2d_depthwise import convolve
from cvperf.backends.triton.conv2d_plan import FLAT, FORWARD, run_best
from cvperf.backends.triton.conv2d_shared import PRECISION, kind_of, reduce
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import conv2d as kernels


def conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str | None,
    residual: Tensor | None,
    packed: Tensor | None = None,
    algorithm: str = "automatic",
) -> Tensor:
    layer = layer_of(image.shape, weight.shape, stride, padding, dilation, groups)
    format = convolution_format(image, weight)
    output = Output(layer.output, image.dtype, format, image.device)
    epilogue = Epilogue(
        None if bias is None else bias.contiguous(),
        None if residual is None else channels_last(residual),
        activation,
    )
    image = channels_last(image)
    if layer.depthwise:
        convolve(layer, image, taps_first(weight), output.written, epilogue)
    else:
        kind = kind_of(image.dtype, algorithm)
        pitch = layer.taps * layer.channels
        forward(layer, kind, image, channels_last(weight), pitch, output.written, epilogue)
    return output.finished()


def forward(
    layer: Layer,
    kind: str,
    image: Tensor,
    weight: Tensor,
    weight_pitch: int,
    output: Tensor,
    epilogue: Epilogue,
    fill: int = 0,
) -> None:
    """Launch the product, in one part or in several that are then added.

    Args:
        layer: its sizes; not depthwise.
        kind: of multiplication, a key of ``FORWARD``.
        image: channels last.
        weight: rows of [kh, kw, C / groups], one a filter.
        weight_pitch: numbers from row to row.
        output: channels last.
        epilogue: what follows the sums.
        fill: the image's value that stands for zero, where the window leaves it.
    """
    unsigned = image.dtype == torch.uint8
    filters = layer.filters * layer.groups
    sums = torch.int32 if kind == "int8" else torch.float32
    vector = vector_of(layer.channels, image.element_size())
    out_vector = vector_of(layer.filters, min(output.element_size(), 4))

    def run(config: Config, splits: int) -> None:
        partial = splits > 1
        target, last = output, epilogue
        if partial:
            shape = (splits, layer.pixels, filters)
            target, last = torch.empty(shape, dtype=sums, device=image.device), NO_EPILOGUE
        tiles = -(-layer.pixels // config["BM"]) * -(-layer.filters // config["BN"])
        launch(
            kernels.conv2d,
            (tiles, splits, layer.groups),
            *(image, weight, last.bias, last.residual, target),
            *(last.weight_sums, last.scale_weight, layer.pixels, layer.height, layer.width),
            *(layer.out_height, layer.out_width, layer.channels // vector),
            *(layer.filters // out_vector, layer.groups, *layer.stride, *layer.padding),
            *(*layer.dilation, weight_pitch, *last.scales, *last.zeros, fill),
            KH=layer.kernel[0],
            KW=layer.kernel[1],
            VECTOR=vector,
            OUT_VECTOR=out_vector,
            POINTWISE=layer.pointwise,
            FLAT=layer.flat,
            EVEN=layer.channels % config["BK"] == 0,
            FILL=fill != 0 and any(layer.padding),
            UNSIGNED=unsigned,
            PRECISION=PRECISION[kind],
            ACTIVATION=last.activation,
            SCALAR=last.scalar,
            PARTIAL=partial,
            WIDE=layer.wide,
            SUMS=tl.int32 if kind == "int8" else tl.float32,
            config=config,
        )
        if partial:
            reduce(target, output, layer.pixels, filters, epilogue)

    space = (FLAT if layer.flat else FORWARD)[kind]
    call = f"{layer.kernel} {layer.stride} {image.dtype} {output.dtype}"
    product = forward_product(layer, kind, image.element_size(), output.element_size())
    run_best(machine(image.device), space, product, call, run)
