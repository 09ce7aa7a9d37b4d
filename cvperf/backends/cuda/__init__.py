"""What CUDA C++ serves: the one table, from which the registry learns. Importing it is free.

The files beside this one and the kernels are loaded by the first call of each op. Under
``CVPERF_EMULATE_CUDA=1`` the same functions take CPU tensors and their kernels run in the emulator
of ``kernels/emulator``, but only by name: ``registry.prefer("cuda")``. That is for tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch

from cvperf.backends.gpu.served import FLOATS, HALF, Served, serve, unavailable_gpu

SERVED: tuple[Served, ...] = (
    Served("pack_int8", "int8_gemm", (torch.int8,)),
    Served("int8_gemm", "int8_gemm", (torch.int8, torch.uint8)),
    Served("bias_activation", "elementwise", FLOATS),
    Served("quantize", "elementwise", FLOATS),
    Served("dequantize", "elementwise", (torch.int8, torch.uint8)),
    Served("normalize_image", "elementwise", (torch.uint8,)),
    Served("conv2d", "conv2d", HALF),
    Served("conv2d_input_grad", "conv2d_grad", HALF),
    Served("conv2d_weight_grad", "conv2d_grad", HALF),
    Served("pack_conv2d_int8", "conv2d_int8", (torch.int8,)),
    Served("conv2d_int8", "conv2d_int8", (torch.int8, torch.uint8)),
    Served("nms", "nms", FLOATS),
    Served("batched_nms", "nms", FLOATS),
    Served("nms_padded", "nms", FLOATS),
    Served("soft_nms", "nms", FLOATS),
    Served("roi_align", "roi_align", FLOATS),
    Served("multiscale_roi_align", "roi_align", FLOATS),
    Served("roi_align_backward", "roi_align_backward", FLOATS),
    Served("multiscale_roi_align_backward", "roi_align_backward", FLOATS),
    Served("roi_pool", "roi_pool", FLOATS),
    Served("roi_pool_backward", "roi_pool", FLOATS),
    Served("paste_masks", "paste_masks", FLOATS),
)


@functools.cache
def emulated() -> bool:
    """Whether the kernels of this process run in the emulator."""
    return os.environ.get("CVPERF_EMULATE_CUDA", "0") == "1"


def unavailable(capability: int) -> str | None:
    """None, or why this machine cannot run kernels that need this capability."""
    return None if emulated() else unavailable_gpu(capability) or _missing()


def _missing() -> str | None:
    """None, or what is not installed to compile kernels with."""
    if importlib.util.find_spec("cuda") and importlib.util.find_spec("cuda.core"):
        return None
    return "needs cuda.core to compile kernels: pip install 'cvperf[cuda13]' (or cuda12)"


serve(SERVED, "cuda", unavailable, stand_in=emulated())
