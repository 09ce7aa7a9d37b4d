"""The calls that stand for everything that ships: what is compiled and checked without a GPU.

Each op has a function that yields calls on ``meta`` tensors; together they launch every shipped
configuration. The sizes are those of real layers, since they decide how a kernel is specialised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from cvperf.backends.gpu import shipped_elementwise
from cvperf.backends.gpu.model import Architecture, streamed_share
from cvperf.backends.gpu.shipped import Call, channels_last, meta


def calls() -> Iterator[Call]:
    """Every call of every op."""
    from cvperf.backends.triton import elementwise, shipped_conv2d

    yield from shipped_conv2d.calls()
    yield from roi_align()
    yield from roi_pool()
    yield from nms()
    yield from int8_gemm()
    yield from int4_linear()
    yield from paste_masks()
    yield from shipped_elementwise.calls(elementwise)


def int8_gemm() -> Iterator[Call]:
    from cvperf.backends.gpu.configs import forcing
    from cvperf.backends.gpu.layouts import packed_int8_shape
    from cvperf.backends.triton import int8_gemm as backend

    def call(
        kind: str,
        name: str,
        size: tuple[int, int, int],
        out: torch.dtype,
        dtype: torch.dtype = torch.int8,
        zero: bool = False,
        activation: str | None = None,
    ) -> Call:
        m, k, n = size
        a, b = meta(m, k, dtype=dtype), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        scaled = out != torch.int32
        arguments = (
            *(a, b, n, meta(m) if scaled else None, meta(n) if scaled else None),
            *(meta(m, dtype=torch.int32) if zero else None, meta(n) if scaled else None),
            *(activation, out),
        )

        def run() -> None:
            with forcing(kind):
                backend.int8_gemm(*arguments)

        def share(gpu: Architecture) -> float:
            return backend.predicted_share(gpu, kind, m, n, k, out.itemsize)

        return Call("int8_gemm", f"{kind}, {name}", run, share)

    large = (4096, 4096, 4096)
    yield call("large", "exact sums", large, torch.int32)
    yield call("large", "to bfloat16", large, torch.bfloat16, activation="silu")
    yield call("large", "to float32", large, torch.float32)
    yield call("large", "requantised", large, torch.int8, activation="relu")
    yield call("large", "unsigned", large, torch.bfloat16, torch.uint8, zero=True)
    yield call("large", "K with a tail", (4096, 4080, 4096), torch.bfloat16)
    yield call("medium", "to float32", (1024, 1024, 1024), torch.float32)
    yield call("skinny", "to bfloat16", (128, 4096, 4096), torch.bfloat16)
    yield call("skinny", "sum in parts", (64, 8192, 1024), torch.bfloat16)
    yield call("few", "to bfloat16", (16, 4096, 4096), torch.bfloat16)
    yield call("few", "unsigned", (1, 4096, 4096), torch.float32, torch.uint8, zero=True)
    yield call("few", "sum in parts", (16, 16384, 512), torch.bfloat16)


def int4_linear() -> Iterator[Call]:
    from cvperf.backends.gpu.configs import forcing
    from cvperf.backends.triton import int4_linear as backend

    def call(kind: str, name: str, m: int, group: int, zero: bool, dtype: torch.dtype) -> Call:
        n, k = 4096, 4096
        x, weight = meta(m, k, dtype=dtype), meta(n, k // 2, dtype=torch.uint8)
        scale, bias = meta(n, k // group, dtype=dtype), meta(n, dtype=dtype)
        shift = meta(n, k // group, dtype=torch.int8) if zero else None

        def run() -> None:
            with forcing(kind):
                backend.int4_linear(x, weight, scale, shift, bias, None)

        def share(gpu: Architecture) -> float:
            return backend.predicted_share(gpu, kind, m, n, k)

        return Call("int4_linear", f"{kind}, {name}", run, share)

    yield call("few", "groups of 128", 16, 128, False, torch.float16)
    yield call("few", "groups of 32 with zeros", 1, 32, True, torch.bfloat16)
    yield call("many", "groups of 128", 4096, 128, False, torch.float16)
    yield call("many", "groups of 32 with zeros", 4096, 32, True, torch.bfloat16)


def nms() -> Iterator[Call]:
    from cvperf.backends.triton import nms as backend
    from cvperf.backends.triton import nms_model

    def call(name: str, images: int, count: int, dtype: torch.dtype) -> Call:
        arguments = (meta(images, count, 4, dtype=dtype), meta(images, count, dtype=dtype))
        return Call(
            "nms_padded",
            name,
            lambda: backend.nms_padded(*arguments, 0.5, count),
            lambda gpu: nms_model.predicted_share(gpu, images, count, count),
        )

    # nms launches the same kernels, and then reads how many boxes are left.
    yield call("1 image of 1,000", 1, 1000, torch.float32)
    yield call("8 images of 10,000, half", 8, 10_000, torch.float16)
    boxes, scores, ids = meta(10_000, 4), meta(10_000), meta(10_000, dtype=torch.int64)
    yield Call(
        "batched_nms",
        "10,000",
        lambda: backend.classwise(boxes, scores, ids, 0.5),
        functools.partial(nms_model.predicted_classwise_share, count=10_000, classes=80),
    )

    def softly(method: str, dtype: torch.dtype) -> Call:
        its_boxes, its_scores = meta(1000, 4, dtype=dtype), meta(1000, dtype=dtype)
        return Call(
            "soft_nms",
            method,
            lambda: backend.selected_softly(its_boxes, its_scores, method, 0.3, 0.5, 0.001, None),
            functools.partial(nms_model.predicted_soft_share, count=1000, method=method),
        )

    yield softly("linear", torch.float32)
    yield softly("gaussian", torch.float16)


def roi_align() -> Iterator[Call]:
    from cvperf.backends.gpu.roi_sampling import turning_seconds
    from cvperf.backends.triton import roi_align as forward
    from cvperf.backends.triton import roi_align_backward as backward
    from cvperf.backends.triton import roi_rows
    from cvperf.backends.triton.roi_sampling import weights_seconds

    boxes, size, half = meta(1000, 5), (1, 256, 200, 336), torch.float16
    pixels = size[2] * size[3]

    def nothing(gpu: Architecture) -> float:
        return 0.0

    def turning(tensor: Tensor) -> Callable[[Architecture], float]:
        return functools.partial(turning_seconds, size=tensor.nbytes)

    def align(
        name: str,
        image: Tensor,
        kind: str,
        before: Callable[[Architecture], float] = nothing,
        count: int = 1000,
        bins: int = 7,
        ratio: int = 2,
    ) -> Call:
        values = (count, bins * bins, 256, pixels, image.element_size(), kind)
        return Call(
            "roi_align",
            name,
            lambda: forward.roi_align(image, boxes[:count], 0.25, bins, bins, ratio, True),
            lambda gpu: roi_rows.predicted_share(gpu, *values, before=before(gpu)),
        )

    yield align("channels last, float16", channels_last(*size, dtype=half), "half")
    yield align("channels last, float32", channels_last(*size), "float32")
    planes = meta(*size, dtype=torch.bfloat16)
    yield align("NCHW, bfloat16, map turned", planes, "half, turned", turning(planes))
    yield align("NCHW, float32, few boxes", meta(*size), "planes", count=20)
    # Samples are about a pixel apart: a bin of 2 x 2 pixels reads 4 x 4.
    adaptive = channels_last(*size, dtype=torch.bfloat16)
    tables = functools.partial(weights_seconds, boxes=100)
    yield align("adaptive, bfloat16", adaptive, "half", tables, 100, 14, -1)

    def gradient(
        name: str, grad: Tensor, before: Callable[[Architecture], float] = nothing
    ) -> Call:
        values = (grad.numel(), 256, pixels, grad.element_size())
        args = (grad, boxes, 0.25, 7, 7, *size, 2, True)
        return Call(
            "roi_align_backward",
            name,
            lambda: backward.roi_align_backward(*args),
            lambda gpu: backward.predicted_share(gpu, *values, before(gpu)),
        )

    yield gradient("channels last, float16", channels_last(1000, 256, 7, 7, dtype=half))
    yield gradient("channels last, float32", channels_last(1000, 256, 7, 7))
    planes = meta(1000, 256, 7, 7)
    yield gradient("NCHW, float32", planes, turning(planes))
    yield from _pyramid()


def _pyramid() -> Iterator[Call]:
    from cvperf.backends.gpu.roi_sampling import turning_seconds
    from cvperf.backends.triton import roi_align as forward
    from cvperf.backends.triton import roi_align_backward as backward
    from cvperf.backends.triton import roi_rows
    from cvperf.backends.triton.roi_sampling import LEVELS_S

    boxes = meta(1000, 5)
    scales = [2.0**-level for level in range(2, 7)]
    heights, widths = ([-(-side // 2**level) for level in range(5)] for side in (200, 336))
    canonical = (2, False, 224.0, 4)
    pixels = sum(height * width for height, width in zip(heights, widths, strict=True))

    def both(layout: str, make: Callable[..., Tensor], dtype: torch.dtype) -> Iterator[Call]:
        sizes = zip(heights, widths, strict=True)
        maps = [make(1, 256, *each, dtype=dtype) for each in sizes]
        grad = make(1000, 256, 7, 7, dtype=dtype)
        turns, name = make is meta, f"five levels, {layout}"
        values = (1000, 49, 256, pixels, dtype.itemsize, "half, turned" if turns else "half")

        def before(gpu: Architecture, tensors: Sequence[Tensor]) -> float:
            size = sum(each.nbytes for each in tensors)
            return LEVELS_S + (turning_seconds(gpu, size, len(tensors)) if turns else 0.0)

        yield Call(
            "multiscale_roi_align",
            name,
            lambda: forward.multiscale_roi_align(maps, boxes, scales, 7, 7, *canonical),
            lambda gpu: roi_rows.predicted_share(gpu, *values, before=before(gpu, maps)),
        )
        yield Call(
            "multiscale_roi_align_backward",
            name,
            lambda: backward.multiscale_roi_align_backward(
                *(grad, boxes, scales, 7, 7, 1, 256, heights, widths, *canonical)
            ),
            lambda gpu: backward.predicted_share(
                *(gpu, grad.numel(), 256, pixels, dtype.itemsize, before(gpu, [grad]))
            ),
        )

    yield from both("channels last", channels_last, torch.float16)
    yield from both("NCHW", meta, torch.bfloat16)


def roi_pool() -> Iterator[Call]:
    from cvperf.backends.triton import roi_pool as backend

    boxes, size, dtype = meta(1000, 5), (1, 256, 200, 336), torch.float16
    values = (1000, 256, 200 * 336, dtype.itemsize)
    image, grad = channels_last(*size, dtype=dtype), channels_last(1000, 256, 7, 7, dtype=dtype)
    argmax = channels_last(1000, 256, 7, 7, dtype=torch.int32)
    yield Call(
        "roi_pool",
        "channels last, float16",
        lambda: backend.roi_pool(image, boxes, 0.25, 7, 7),
        lambda gpu: backend.predicted_share(gpu, *values),
    )
    yield Call(
        "roi_pool_backward",
        "channels last, float16",
        lambda: backend.roi_pool_backward(grad, boxes, argmax, 0.25, 7, 7, *size),
        lambda gpu: backend.predicted_backward_share(gpu, *values),
    )


def paste_masks() -> Iterator[Call]:
    from cvperf.backends.triton import paste_masks as backend

    def call(name: str, height: int, width: int, threshold: float | None) -> Call:
        masks, boxes = meta(100, 28, 28), meta(100, 4)
        written = 100 * height * width * (4 if threshold is None else 1)
        return Call(
            "paste_masks",
            name,
            lambda: backend.paste_masks(masks, boxes, height, width, threshold, padding=1),
            functools.partial(streamed_share, memory_bytes=written),
        )

    yield call("800x1333", 800, 1333, 0.5)
    yield call("480x640, values", 480, 640, None)
