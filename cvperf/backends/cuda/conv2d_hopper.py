"""Convolution by TMA and wgmma on sm_90a: ``kernels/cuda/conv2d_hopper.cu``.

``conv2d.py`` hands over what it chooses such a configuration for. Not yet run on hardware.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from cvperf.backends.cuda import hopper, tensor_map
from cvperf.backends.cuda.conv2d_plan import GROUP
from cvperf.backends.cuda.conv2d_shared import NAMES, finishing
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.conv2d_shared import Epilogue
from cvperf.backends.gpu.model import Architecture


def multiply(
    gpu: Architecture,
    config: Config,
    layer: Layer,
    image: Tensor,
    weight: Tensor,
    weight_pitch: int,
    output: Tensor,
    epilogue: Epilogue,
) -> None:
    """Launch the product.

    Args:
        gpu: that runs it.
        config: one of ``hopper.tile``.
        layer: its sizes, for which ``conv2d_plan.takes_tensor_copies``.
        image: channels last.
        weight: rows of [kh, kw, C], one a filter.
        weight_pitch: numbers from row to row.
        output: channels last.
        epilogue: what follows the sums.
    """
    size, span, (rows, columns) = image.element_size(), hopper.ROW_BYTES, hopper.size(config)
    channels = span // size
    maps = (
        tensor_map.im2col(
            *(image, layer.kernel, layer.stride, layer.padding, layer.dilation),
            *(channels, rows, span),
        ),
        tensor_map.tiled(
            weight,
            (layer.channels, layer.taps, layer.filters),
            (layer.channels * size, weight_pitch * size),
            (channels, 1, columns),
            span,
        ),
    )
    launch(
        _kernel(image.dtype, config),
        (min(hopper.tiles(config, layer.pixels, layer.filters), gpu.processors),),
        32 * config.num_warps,
        *(*maps, *finishing(output, epilogue), epilogue.weight_sums),
        *(layer.images, layer.out_height, layer.out_width, layer.channels, layer.filters),
        *(*layer.kernel, *layer.stride, *layer.padding, *layer.dilation, GROUP),
        shared_bytes=hopper.shared_bytes(config),
    )


@functools.cache
def _kernel(dtype: torch.dtype, config: Config) -> Kernel:
    name = f"conv2d_hopper<{NAMES[dtype]}, {hopper.template(config)}>"
    return Kernel("conv2d_hopper.cu", name)
