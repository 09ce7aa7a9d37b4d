"""The public ops: each with a file of its own, a schema in torch.library, and a reference."""

from cvperf.ops.conv2d import conv2d
from cvperf.ops.int8_gemm import PackedInt8, int8_gemm, pack_int8
from cvperf.ops.multiscale_roi_align import multiscale_roi_align
from cvperf.ops.nms import batched_nms, nms
from cvperf.ops.roi_align import roi_align
from cvperf.ops.roi_pool import roi_pool

__all__ = [
    "PackedInt8",
    "batched_nms",
    "conv2d",
    "int8_gemm",
    "multiscale_roi_align",
    "nms",
    "pack_int8",
    "roi_align",
    "roi_pool",
]
