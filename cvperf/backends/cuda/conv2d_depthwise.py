"""Depthwise convolution in CUDA C++: forward and both gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.cuda.conv2d_depthwise_plan import (
    Tiling,
    WeightGradTiling,
    fast_kernel,
)
from cvperf.backends.cuda.conv2d_shared import NAMES, finishing, reduce
from cvperf.backends.cuda.launch import Kernel, launch
from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.conv2d_shared import NO_EPILOGUE, Epilogue
from cvperf.backends.gpu.machine import machine


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
    sizes = image.element_size(), output.element_size()
    gather = Gather(layer, *sizes, turned, residual=epilogue.residual is not None)
    padding, pitch = layer.padding, weight.stride(0)
    if turned and layer.stride == (1, 1) and layer.filters == 1:
        # The same as a convolution with its taps read from the last to the first.
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel, strict=True)]
        padding = reach[0] - padding[0], reach[1] - padding[1]
        weight, pitch, turned = weight[layer.taps - 1 :], -pitch, False
    tiling = Tiling.of(machine(image.device), gather)
    fast = fast_kernel(layer, turned)
    types = f"{NAMES[image.dtype]}, {NAMES[weight.dtype]}, {tiling.vector}"
    name = f"{types}, {fast}, {layer.stride[0] if fast else 0}, {str(turned).lower()}"
    launch(
        Kernel("conv2d_depthwise.cu", f"conv2d_depthwise<{name}>"),
        (tiling.blocks,),
        tiling.threads,
        *(image, weight, *finishing(output, epilogue), images, *image.shape[2:]),
        *(out_height, out_width, channels, layer.filters, pitch, *layer.kernel),
        *(*layer.stride, *padding, *layer.dilation),
        *(tiling.lanes, tiling.strips, tiling.lines),
    )


def weight_grad(layer: Layer, grad: Tensor, image: Tensor, output: Tensor) -> None:
    """The gradient of the weight into ``output`` [O, 1, kh, kw]; both others are channels last."""
    filters = layer.filters * layer.groups
    tiling = WeightGradTiling.of(machine(grad.device), layer)
    fast = fast_kernel(layer, turned=False)
    parts = torch.empty(
        (tiling.parts, filters, layer.taps), dtype=torch.float32, device=grad.device
    )
    name = f"{NAMES[grad.dtype]}, {tiling.vector}, {fast}, {layer.stride[0] if fast else 0}"
    launch(
        Kernel("conv2d_depthwise_grad.cu", f"conv2d_depthwise_weight_grad<{name}>"),
        (tiling.blocks, tiling.parts),
        tiling.threads,
        *(grad, image, parts, layer.images, layer.height, layer.width),
        *(layer.out_height, layer.out_width, filters, layer.filters, *layer.kernel),
        *(*layer.stride, *layer.padding, *layer.dilation, tiling.lanes, tiling.rows),
    )
    reduce(parts, output, filters, layer.taps, NO_EPILOGUE)
