"""Convolution in CUDA C++, forward.

The kernels read channels last. An NCHW image costs a copy, and so does its NCHW output: read as it
is, a block of channels would be one number from each of as many lines of memory, and none of it
could be copied to shared memory 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf.backends.cuda import conv2d_hopper, hopper
from cvperf.backends.cuda.conv2d_depthwise import convolve
from cvperf.backends.cuda.conv2d_plan import (
    GROUP,
    copied_at_once,
    forward_choices,
    run_best,
    with_copies,
)
from cvperf.backends.cuda.conv2d_shared import (
    NAMES,
    aligned,
    finishing,
    padded,
    reduce,
)
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.cuda.mainloop import shared_bytes
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.conv2d_shared import (
    NO_EPILOGUE,
    Epilogue,
    Output,
    layer_of,
    taps_first,
)
from cvperf.backends.gpu.machine import machine
from cvperf.backends.registry import convolution_format


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
    output = Output(layer.output, image.dtype, convolution_format(image, weight), image.device)
    epilogue = Epilogue(
        None if bias is None else bias.contiguous(),
        None if residual is None else aligned(residual),
        activation,
    )
    if layer.depthwise:
        convolve(layer, aligned(image), taps_first(weight), output.written, epilogue)
    else:
        image, weight = padded(image, groups), padded(weight)
        layer = with_copies(layer)
        pitch = layer.taps * layer.channels
        forward(layer, image, weight, pitch, output.written, epilogue)
    return output.finished()


def forward(
    layer: Layer,
    image: Tensor,
    weight: Tensor,
    weight_pitch: int,
    output: Tensor,
    epilogue: Epilogue,
    fill: int = 0,
) -> None:
    """Launch the product, in one part or in several that are then added.

    Args:
        layer: its sizes; not depthwise; channels that copies can read.
        image: channels last.
        weight: rows of [kh, kw, C / groups], one a filter.
        weight_pitch: numbers from row to row.
        output: channels last.
        epilogue: what follows the sums.
        fill: the image's value that stands for zero, where the window leaves it.
    """
    size = image.element_size()
    kind, sums = ("int8", torch.int32) if size == 1 else ("half", torch.float32)
    vector = copied_at_once(layer.channels, size)
    filters = layer.filters * layer.groups
    types = f"{NAMES[image.dtype]}, {NAMES[weight.dtype]}, {vector}"

    gpu = machine(image.device)

    def run(config: Config, splits: int) -> None:
        if hopper.is_tile(config):
            conv2d_hopper.multiply(
                gpu, config, layer, image, weight, weight_pitch, output, epilogue
            )
            return
        target, last = output, epilogue
        if splits > 1:
            shape = (splits, layer.pixels, filters)
            target, last = torch.empty(shape, dtype=sums, device=image.device), NO_EPILOGUE
        tiles = -(-layer.pixels // config["BM"]) * -(-layer.filters // config["BN"])
        launch(
            Kernel("conv2d.cu", f"conv2d<{types}, {config.template}>"),
            (tiles, splits, layer.groups),
            32 * config.num_warps,
            *(image, weight, *finishing(target, last), last.weight_sums, fill),
            *(layer.images, layer.height, layer.width, layer.out_height, layer.out_width),
            *(layer.channels, layer.filters, weight_pitch, *layer.kernel, *layer.stride),
            *(*layer.padding, *layer.dilation, GROUP),
            shared_bytes=shared_bytes(size, config),
        )
        if splits > 1:
            reduce(target, output, layer.pixels, filters, epilogue)

    sizes = (size, output.element_size())
    space, product = forward_choices(gpu, layer, kind, sizes, weight_pitch, fill)
    call = f"{layer.kernel} {layer.stride} {image.dtype} {output.dtype}"
    run_best(gpu, space, product, call, run)
