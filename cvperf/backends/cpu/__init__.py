"""The CPU backend: allocates outputs and hands pointers to the kernels in ``cvperf._C``.

Arguments have been checked by ``cvperf.ops``; here they are only made contiguous where a kernel
needs it. Importing this package registers its functions.
"""

from cvperf.backends.cpu import (
    conv2d,
    conv2d_binary,
    conv2d_int8,
    elementwise,
    int4_linear,
    int8_gemm,
    nms,
    paste_masks,
    roi_align,
)

__all__ = [
    "conv2d",
    "conv2d_binary",
    "conv2d_int8",
    "elementwise",
    "int4_linear",
    "int8_gemm",
    "nms",
    "paste_masks",
    "roi_align",
]
