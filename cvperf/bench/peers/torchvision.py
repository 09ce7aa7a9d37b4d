"""torchvision's own kernels for detection."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.nms import Nms
from cvperf.bench.problems.roi_align import MultiscaleRoiAlign, RoiAlign, RoiAlignBackward


def nms(problem: Nms) -> Contender:
    p = problem
    _check_dtype(p.boxes)
    from torchvision.ops import nms

    return Contender(lambda: nms(p.boxes, p.scores, p.iou_threshold), context=inference)


def roi_align(problem: RoiAlign) -> Contender:
    p = problem
    _check_dtype(p.features)
    features = p.features.contiguous()
    import torchvision  # noqa: F401  (registers its ops)

    run = torch.ops.torchvision.roi_align.default
    return Contender(
        lambda: run(features, p.boxes, *p.arguments), context=inference, layout="contiguous"
    )


def roi_align_backward(problem: RoiAlignBackward) -> Contender:
    p = problem
    _check_dtype(p.grad)
    grad, sizes = p.grad.contiguous(), p.features.shape
    scale, height, width, ratio, aligned = p.arguments
    import torchvision  # noqa: F401  (registers its ops)

    run = torch.ops.torchvision._roi_align_backward.default
    return Contender(
        lambda: run(grad, p.boxes, scale, height, width, *sizes, ratio, aligned),
        context=inference,
        layout="contiguous",
    )


def multiscale_roi_align(problem: MultiscaleRoiAlign) -> Contender:
    p = problem
    _check_dtype(p.boxes)
    from torchvision.ops import MultiScaleRoIAlign

    features = {str(i): each.contiguous() for i, each in enumerate(p.features)}
    pool = MultiScaleRoIAlign([*features], p.output_size, p.sampling_ratio)
    boxes = p.boxes_of_images
    height, width = (round(side / p.scales[0]) for side in p.features[0].shape[2:])
    images = [(height, width)] * p.shape.n
    return Contender(lambda: pool(features, boxes, images), context=inference, layout="contiguous")


def _check_dtype(tensor: Tensor) -> None:
    """Raises Unsupported for what torchvision's kernels do not take."""
    if tensor.dtype == torch.bfloat16:
        raise Unsupported("torchvision's kernels take float64, float32 and float16, no bfloat16")


PEER = Peer(
    "torchvision",
    ("torchvision",),
    {
        "nms": nms,
        "roi_align": roi_align,
        "roi_align_backward": roi_align_backward,
        "multiscale_roi_align": multiscale_roi_align,
    },
    devices=("cpu", "cuda"),
)
