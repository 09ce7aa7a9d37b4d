"""The public ops: each with a file of its own, a schema in torch.library, and a reference.

Where an op takes tensors it takes arrays of NumPy, CuPy or another library with DLPack as well, all
of one library, and answers with arrays of that library; ``cvperf/ops/_arrays.py`` says how.
"""

from cvperf.ops._packed import PackedConv2d, pack_conv2d
from cvperf.ops.bias_activation import bias_activation
from cvperf.ops.conv2d import conv2d
from cvperf.ops.conv2d_binary import (
    PackedConv2dBinary,
    conv2d_binary,
    pack_bits,
    pack_conv2d_binary,
)
from cvperf.ops.conv2d_int8 import PackedConv2dInt8, conv2d_int8, pack_conv2d_int8
from cvperf.ops.int4_linear import int4_linear, pack_int4
from cvperf.ops.int8_gemm import PackedInt8, int8_gemm, pack_int8
from cvperf.ops.multiscale_roi_align import multiscale_roi_align
from cvperf.ops.nms import batched_nms, multiclass_nms_padded, nms, nms_padded
from cvperf.ops.normalize_image import normalize_image
from cvperf.ops.paste_masks import paste_masks
from cvperf.ops.quantize import dequantize, quantize
from cvperf.ops.roi_align import roi_align
from cvperf.ops.roi_pool import roi_pool
from cvperf.ops.soft_nms import soft_nms

__all__ = [
    "PackedConv2d",
    "PackedConv2dBinary",
    "PackedConv2dInt8",
    "PackedInt8",
    "batched_nms",
    "bias_activation",
    "conv2d",
    "conv2d_binary",
    "conv2d_int8",
    "dequantize",
    "int4_linear",
    "int8_gemm",
    "multiclass_nms_padded",
    "multiscale_roi_align",
    "nms",
    "nms_padded",
    "normalize_image",
    "pack_bits",
    "pack_conv2d",
    "pack_conv2d_binary",
    "pack_conv2d_int8",
    "pack_int4",
    "pack_int8",
    "paste_masks",
    "quantize",
    "roi_align",
    "roi_pool",
    "soft_nms",
]
