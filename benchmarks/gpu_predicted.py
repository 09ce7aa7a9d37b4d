"""The analytical models against the ledger: what a row of it should have taken.

The models rank configurations (``cvperf/backends/gpu/model.py``). Where they are off by the same
factor everywhere they still rank well; a wide range of factors says which to mend.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cvperf.backends.gpu.model import ARCHITECTURES, Architecture, family
from cvperf.bench.report.paired import geometric_mean
from cvperf.bench.results import Measurement

CONTENDER = "cvperf triton"
_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Checked:
    """One op's model on one GPU.

    Attributes:
        op: its name.
        ratios: case -> measured time over the predicted one.
    """

    op: str
    ratios: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Geometric mean of the ratios."""
        return geometric_mean(list(self.ratios.values()))


def checked(rows: Iterable[Measurement]) -> list[Checked]:
    """The models of all ops that rows of one GPU hold times of."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.contender != CONTENDER or row.status != "ok":
            continue
        expected = seconds(row)
        if expected is not None:
            found[row.op][row.case] = row.time_ms / 1e3 / expected
    return [Checked(op, ratios) for op, ratios in found.items()]


def seconds(row: Measurement) -> float | None:
    """Predicted seconds of a row's call on its GPU; None where no model covers it."""
    model = _MODELS.get(row.op)
    if model is None:
        return None
    major, minor = row.environment["gpu_capability"].split(".")
    return model(row, ARCHITECTURES[family(10 * int(major) + int(minor))])


def _convolution(row: Measurement, gpu: Architecture) -> float | None:
    from cvperf.backends.gpu import conv2d_product as products
    from cvperf.backends.gpu.conv2d_layer import Layer
    from cvperf.backends.triton import conv2d_plan as plan

    names = ("input", "weight", "stride", "padding", "dilation", "groups")
    layer = Layer.of(*(row.shape[name] for name in names))
    size = _BYTES[row.dtype]
    kind = "tf32" if row.dtype == "float32" else "half"
    if layer.depthwise or row.layout != "channels_last":
        return None
    if row.op == "conv2d":
        product = products.forward_product(layer, kind, size, size)
        return plan.predicted_best(gpu, (plan.FLAT if layer.flat else plan.FORWARD)[kind], product)
    if row.op == "conv2d_input_grad":
        product = products.input_grad_product(layer, kind, size)
        return plan.predicted_best(gpu, plan.INPUT_GRAD[kind], product)
    space = (plan.FLAT_WEIGHT_GRAD if layer.flat else plan.WEIGHT_GRAD)[kind]
    return plan.predicted_best(gpu, space, products.weight_grad_product(layer, kind, size))


def _int8_gemm(row: Measurement, gpu: Architecture) -> float:
    from cvperf.backends.triton.int8_gemm import SPACE, predicted

    m, n, k = (row.shape[name] for name in "mnk")
    configs = SPACE.shipped[family(gpu.capability)].values()
    return min(predicted(gpu, config, m, n, k, 4) for config in configs)


def _roi_align(row: Measurement, gpu: Architecture) -> float | None:
    from cvperf.backends.triton import roi_align_backward, roi_rows

    if row.layout != "channels_last" or row.shape["sampling_ratio"] != 2:
        return None
    images, channels, height, width = row.shape["input"]
    bins = row.shape["boxes"][0] * row.shape["output_size"][0] * row.shape["output_size"][1]
    size, pixels = _BYTES[row.dtype], images * height * width
    kind = "half" if size == 2 else "float32"
    if row.op == "roi_align":
        config = roi_rows.SPACE.default(gpu, kind)
        return roi_rows.predicted(gpu, config, bins, channels, channels * pixels, size, kind)
    config = roi_align_backward.SPACE.default(gpu, kind)
    return roi_align_backward.predicted(gpu, config, bins * channels, channels, pixels, size)


def _nms(row: Measurement, gpu: Architecture) -> float:
    from cvperf.backends.triton.nms_model import predicted_all

    count, images = row.shape["boxes"][0], row.shape.get("images", 1)
    return predicted_all(gpu, images, count, row.shape.get("max_output", count))


_MODELS: Mapping[str, Callable[[Measurement, Architecture], float | None]] = {
    "conv2d": _convolution,
    "conv2d_input_grad": _convolution,
    "conv2d_weight_grad": _convolution,
    "int8_gemm": _int8_gemm,
    "roi_align": _roi_align,
    "roi_align_backward": _roi_align,
    "nms": _nms,
    "nms_padded": _nms,
}


def lines(rows: Iterable[Measurement]) -> Sequence[tuple[str, ...]]:
    """Op, shapes, measured over predicted: mean, least, most, with the cases of those."""
    said = []
    for one in checked(rows):
        least, most = (pick(one.ratios, key=one.ratios.__getitem__) for pick in (min, max))
        said.append(
            (
                *(one.op, str(len(one.ratios)), f"{one.mean:.2f}"),
                *(f"{one.ratios[case]:.2f} ({case})" for case in (least, most)),
            )
        )
    return said
