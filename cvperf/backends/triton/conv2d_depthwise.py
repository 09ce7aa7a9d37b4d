"""Depthwise convolution in Triton: forward and both gradients."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from cvperf.backends.gpu.configs import Config
from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer, power_of_two, vector_of
from cvperf.backends.gpu.conv2d_shared import NO_EPILOGUE, Epilogue
from cvperf.backends.gpu.machine import machine
from cvperf.backends.triton.conv2d_depthwise_plan import run_best, weight_grad_tiling
from cvperf.backends.triton.conv2d_shared import reduce
from cvperf.backends.triton.launch import launch
from cvperf.kernels.triton import conv2d_depthwise as kernels


def convolve(
    layer: Layer,
    image: Tensor,
    weight: Tensor,
    output: Tensor,
    epilogue: Epilogue = NO_EPILOGUE,
    *,
    turned: bool = False,
) -> None:
    """Convolution, or with ``turned`` the gradient of its input.

    Args:
        layer: its sizes.
        image: channels last; with ``turned`` the gradient of the output.
        weight: [kh * kw, O], rows may be padded.
        output: channels last; with ``turned`` the gradient of the image.
        epilogue: what follows the sums.
        turned: which of the two.
    """
    images, channels, out_height, out_width = output.shape
    rows = images * out_height * out_width
    height, width = image.shape[2:]
    vector = vector_of(channels, image.element_size())

    def run(config: Config) -> None:
        launch(
            kernels.conv2d_depthwise,
            (-(-rows // config["BP"]), -(-channels // config["BC"])),
            *(image, weight, epilogue.bias, epilogue.residual, output, epilogue.scale_weight),
            *(rows, height, width, out_height, out_width, channels // vector, weight.stride(0)),
            *(*layer.stride, *layer.padding, *layer.dilation),
            *(*epilogue.scales, *epilogue.zeros),
            KH=layer.kernel[0],
            KW=layer.kernel[1],
            VECTOR=vector,
            MULTIPLIER=layer.filters,
            TURNED=turned,
            ACTIVATION=epilogue.activation,
            SCALAR=epilogue.scalar,
            WIDE=layer.wide,
            SUMS=tl.float32 if image.is_floating_point() else tl.int32,
            config=config,
        )

    sizes = image.element_size(), output.element_size()
    gather = Gather(layer, *sizes, turned, residual=epilogue.residual is not None)
    run_best(machine(image.device), gather, run)


def weight_grad(layer: Layer, grad: Tensor, image: Tensor, output: Tensor) -> None:
    """The gradient of the weight into ``output`` [O, 1, kh, kw]; both others are channels last."""
    filters = layer.filters * layer.groups
    vector = vector_of(filters, grad.element_size())
    config, programs, splits = weight_grad_tiling(machine(grad.device), layer)
    parts = torch.empty((splits, layer.taps, filters), dtype=torch.float32, device=grad.device)
    launch(
        kernels.conv2d_depthwise_weight_grad,
        (programs, splits),
        *(grad, image, parts, layer.pixels, layer.height, layer.width),
        *(layer.out_height, layer.out_width, filters // vector),
        *(*layer.stride, *layer.padding, *layer.dilation),
        KH=layer.kernel[0],
        KW=layer.kernel[1],
        KW_BLOCK=power_of_two(layer.kernel[1]),
        VECTOR=vector,
        MULTIPLIER=layer.filters,
        WIDE=layer.wide,
        config=config,
    )
    sums = torch.empty((layer.taps, filters), dtype=output.dtype, device=grad.device)
    reduce(parts, sums, layer.taps, filters, NO_EPILOGUE)
    output.copy_(sums.t().view(output.shape))
