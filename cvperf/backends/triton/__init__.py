"""What Triton serves: the one table, from which the registry learns. Importing it is free.

Triton and the kernels are imported by the first call of each op. Under ``TRITON_INTERPRET=1``
(Triton's own switch, read before a kernel is imported) the same functions take CPU tensors and run
in Triton's interpreter, but only by name: ``registry.prefer("triton")``. That is for tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch

from cvperf.backends.gpu.served import FLOATS, HALF, Served, serve, unavailable_gpu

SERVED = (
    Served("conv2d", "conv2d", FLOATS),
    Served("conv2d_input_grad", "conv2d_grad", FLOATS),
    Served("conv2d_weight_grad", "conv2d_grad", FLOATS),
    Served("pack_conv2d_int8", "conv2d_int8", (torch.int8,)),
    Served("conv2d_int8", "conv2d_int8", (torch.int8, torch.uint8)),
    Served("roi_align", "roi_align", FLOATS),
    Served("multiscale_roi_align", "roi_align", FLOATS),
    Served("roi_align_backward", "roi_align_backward", FLOATS),
    Served("multiscale_roi_align_backward", "roi_align_backward", FLOATS),
    Served("roi_pool", "roi_pool", FLOATS),
    Served("roi_pool_backward", "roi_pool", FLOATS),
    Served("nms", "nms", FLOATS),
    Served("batched_nms", "nms", FLOATS),
    Served("nms_padded", "nms", FLOATS),
    Served("soft_nms", "nms", FLOATS),
    Served("pack_int8", "int8_gemm", (torch.int8,)),
    Served("int8_gemm", "int8_gemm", (torch.int8, torch.uint8)),
    Served("int4_linear", "int4_linear", HALF),
    Served("paste_masks", "paste_masks", FLOATS),
    Served("bias_activation", "elementwise", FLOATS),
    Served("quantize", "elementwise", FLOATS),
    Served("dequantize", "elementwise", (torch.int8, torch.uint8)),
    Served("normalize_image", "elementwise", (torch.uint8,)),
)


@functools.cache
def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter in this process."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def unavailable(capability: int) -> str | None:
    """None, or why this machine cannot run kernels that need this capability."""
    if importlib.util.find_spec("triton") is None:
        return "needs triton, which comes with torch's CUDA wheels: pip install triton"
    return None if interpreted() else unavailable_gpu(capability)


serve(SERVED, "triton", unavailable, stand_in=interpreted())
