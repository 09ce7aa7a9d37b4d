"""Plain torch in float64: slow, short, and what every kernel is held to.

Never picked by itself; tests call it, and ``registry.prefer("reference")`` runs a model on it.
"""

from cvperf.backends.reference.activation import activate
from cvperf.backends.reference.conv2d import conv2d, conv2d_input_grad, conv2d_weight_grad
from cvperf.backends.reference.conv2d_binary import (
    conv2d_binary,
    pack_bits,
    pack_conv2d_binary,
)
from cvperf.backends.reference.conv2d_int8 import conv2d_int8, pack_conv2d_int8
from cvperf.backends.reference.elementwise import (
    bias_activation,
    dequantize,
    normalize_image,
    quantize,
)
from cvperf.backends.reference.int4_linear import int4_linear, int4_linear_exact
from cvperf.backends.reference.int8_gemm import int8_gemm, pack_int8
from cvperf.backends.reference.nms import batched_nms, nms, nms_padded, soft_nms
from cvperf.backends.reference.paste_masks import paste_masks
from cvperf.backends.reference.roi_align import (
    multiscale_roi_align,
    multiscale_roi_align_backward,
    roi_align,
    roi_align_backward,
)
from cvperf.backends.reference.roi_pool import roi_pool, roi_pool_backward

__all__ = [
    "activate",
    "batched_nms",
    "bias_activation",
    "conv2d",
    "conv2d_binary",
    "conv2d_input_grad",
    "conv2d_int8",
    "conv2d_weight_grad",
    "dequantize",
    "int4_linear",
    "int4_linear_exact",
    "int8_gemm",
    "multiscale_roi_align",
    "multiscale_roi_align_backward",
    "nms",
    "nms_padded",
    "normalize_image",
    "pack_bits",
    "pack_conv2d_binary",
    "pack_conv2d_int8",
    "pack_int8",
    "paste_masks",
    "quantize",
    "roi_align",
    "roi_align_backward",
    "roi_pool",
    "roi_pool_backward",
    "soft_nms",
]
