"""The four ops one at a time, at the sizes that detectors give them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cvperf.bench.demo.agreement import same_integers, same_values
from cvperf.bench.demo.case import Work

_SEED = 0


def nms() -> Work:
    """10,000 boxes [10000, 4] around 200 objects, scores [10000], IoU 0.5."""
    return _nms(*proposals(objects=200, each=50))


def nms_uniform() -> Work:
    """10,000 boxes [10000, 4] anywhere in 1000 x 1000 pixels, sides 1 to 61, IoU 0.5."""
    generator = _generator()
    corners = torch.rand(10_000, 2, generator=generator) * 1000
    sides = 1 + torch.rand(10_000, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + sides], 1)
    return _nms(boxes, torch.rand(10_000, generator=generator))


def _nms(boxes: Tensor, scores: Tensor) -> Work:
    from torchvision.ops import nms

    return Work(lambda: nms(boxes, scores, 0.5), same_integers)


def roi_align() -> Work:
    """Input [1, 256, 200, 200] channels-last, 512 boxes, 7 x 7, ratio 2."""
    from torchvision.ops import roi_align

    image, rois = _feature_map(), _rois(512)
    return Work(lambda: roi_align(image, rois, (7, 7), 0.25, 2, True), same_values)


def roi_align_backward() -> Work:
    """The gradient [1, 256, 200, 200] of the same call; the forward is not timed."""
    import torchvision  # noqa: F401  registers the op

    rois = _rois(512)
    gradient = torch.randn(512, 256, 7, 7, generator=_generator())
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    backward = torch.ops.torchvision._roi_align_backward
    return Work(
        lambda: backward(gradient, rois, 0.25, 7, 7, 1, 256, 200, 200, 2, True), same_values
    )


def conv2d(
    input_shape: tuple[int, ...],
    channels: int,
    kernel: int,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.contiguous_format,
) -> Work:
    """Input [N, C, H, W], weight [channels, C / groups, kernel, kernel], bias, stride 1."""
    generator = _generator()
    weight_shape = (channels, input_shape[1] // groups, kernel, kernel)
    image = torch.randn(input_shape, generator=generator).to(dtype, memory_format=layout)
    weight = torch.randn(weight_shape, generator=generator).to(dtype, memory_format=layout)
    bias = torch.randn(channels, generator=generator).to(dtype)

    @torch.inference_mode()
    def run() -> Tensor:
        return functional.conv2d(image, weight, bias, padding=kernel // 2, groups=groups)

    return Work(run, same_values)


def int8_gemm(rows: int = 512, inner: int = 512, columns: int = 512) -> Work:
    """int8 [rows, inner] by int8 [inner, columns] to int32; neither side has packed its weights."""
    from cvperf import ops

    generator = _generator()
    a = torch.randint(-128, 128, (rows, inner), dtype=torch.int8, generator=generator)
    b = torch.randint(-128, 128, (inner, columns), dtype=torch.int8, generator=generator)
    return Work(lambda: torch._int_mm(a, b), same_integers, cvperf=lambda: ops.int8_gemm(a, b))


def proposals(objects: int, each: int, side: float = 800.0) -> tuple[Tensor, Tensor]:
    """What a detector hands to NMS: ``each`` jittered boxes around each of ``objects`` objects.

    Returns:
        boxes [objects * each, 4] xyxy in pixels of a ``side`` x ``side`` image, and scores
        [objects * each], higher the closer a box lies to its object.
    """
    generator = _generator()
    count = objects * each
    centre = torch.rand(objects, 2, generator=generator) * side
    size = torch.exp(torch.randn(objects, 2, generator=generator) * 0.6 + 3.9)  # about 50 px
    noise = torch.randn(count, 4, generator=generator) * 0.15
    sizes = size.repeat_interleave(each, 0)
    middle = centre.repeat_interleave(each, 0) + noise[:, :2] * sizes
    half = sizes * torch.exp(noise[:, 2:]) / 2
    boxes = torch.cat([middle - half, middle + half], 1).clamp(0, side)
    doubt = torch.rand(count, generator=generator) * 0.2
    scores = torch.exp(-noise.square().sum(1) * 5) - doubt
    order = torch.randperm(count, generator=generator)
    return boxes[order], scores[order]


def _rois(count: int) -> Tensor:
    boxes, _ = proposals(objects=64, each=count // 64)
    return torch.cat([torch.zeros(count, 1), boxes], 1)


def _feature_map() -> Tensor:
    image = torch.randn(1, 256, 200, 200, generator=_generator())
    return image.contiguous(memory_format=torch.channels_last)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
