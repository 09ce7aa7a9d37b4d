"""torchvision's own kernels for detection."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.elementwise import MEAN, STD, NormalizeImage
from cvperf.bench.problems.nms import BatchedNms, Nms, NmsPadded
from cvperf.bench.problems.paste_masks import PasteMasks
from cvperf.bench.problems.roi_align import MultiscaleRoiAlign, RoiAlign, RoiAlignBackward


def nms(problem: Nms) -> Contender:
    p = problem
    _check_dtype(p.boxes)
    from torchvision.ops import nms

    return Contender(lambda: nms(p.boxes, p.scores, p.iou_threshold), context=inference)


def batched_nms(problem: BatchedNms) -> Contender:
    p = problem
    _check_dtype(p.boxes)
    from torchvision.ops import batched_nms

    return Contender(
        lambda: batched_nms(p.boxes, p.scores, p.idxs, p.iou_threshold), context=inference
    )


def nms_padded(problem: NmsPadded) -> Contender:
    """One image after the other: what there is to do without such an op."""
    p = problem
    _check_dtype(p.boxes)
    from torchvision.ops import nms

    def run() -> Tensor:
        indices = p.boxes.new_full((len(p.boxes), p.max_output), -1, dtype=torch.int64)
        for row, boxes, scores in zip(indices, p.boxes, p.scores, strict=True):
            kept = nms(boxes, scores, p.iou_threshold)[: p.max_output]
            row[: len(kept)] = kept
        return indices

    return Contender(run, p.numbered, context=inference, note="a loop over the images")


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


def paste_masks(problem: PasteMasks) -> Contender:
    p = problem
    _check_dtype(p.masks)
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    def run() -> Tensor:
        pasted = paste_masks_in_image(p.masks, p.boxes, p.image_size)
        return pasted if p.threshold is None else pasted > p.threshold

    return Contender(run, context=inference)


def normalize_image(problem: NormalizeImage) -> Contender:
    p, s = problem, problem.shape
    from torchvision.transforms.v2 import functional

    mean, std = list(MEAN), list(STD)

    def run() -> Tensor:
        values = functional.to_dtype(p.planes, torch.float32, scale=True)
        values = functional.normalize(values, mean, std, inplace=True)
        return values.to(s.torch_dtype).contiguous(memory_format=s.memory_format)

    return Contender(run, context=inference)


def _check_dtype(tensor: Tensor) -> None:
    """Raises Unsupported for what torchvision's kernels do not take."""
    if tensor.dtype == torch.bfloat16:
        raise Unsupported("torchvision's kernels take float64, float32 and float16, no bfloat16")


PEER = Peer(
    "torchvision",
    ("torchvision",),
    {
        "nms": nms,
        "batched_nms": batched_nms,
        "nms_padded": nms_padded,
        "roi_align": roi_align,
        "roi_align_backward": roi_align_backward,
        "multiscale_roi_align": multiscale_roi_align,
        "paste_masks": paste_masks,
        "normalize_image": normalize_image,
    },
    devices=("cpu", "cuda"),
)
