"""A recorded call has the shape of the tensors it was made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import nms, roi_align

from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import ConvolutionShape
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.problems.nms import NmsShape
from cvperf.bench.problems.roi_align import RoiAlignShape
from cvperf.profiler import profile
from cvperf.profiler.tables import Call


def recorded(run: Callable[[], Any], family: str) -> Call:
    with profile() as p, torch.inference_mode():
        run()
    (call,) = [call for call in p.calls if call.family == family]
    return call


def shape_of(run: Callable[[], Any], family: str) -> Shape:
    (shape,) = recorded(run, family).shapes
    return replace(shape, name="")


CONVOLUTIONS = [
    ConvolutionShape(name="", n=2, c=8, h=9, w=11, o=4, kernel=(3, 5), layout="contiguous"),
    ConvolutionShape(name="", n=1, c=8, h=9, w=9, o=8, kernel=(3, 3), stride=(2, 1), groups=8),
    ConvolutionShape(name="", n=1, c=4, h=9, w=9, o=4, kernel=(3, 3), dilation=(2, 2), bias=False),
    ConvolutionShape(name="", n=1, c=4, h=9, w=9, o=4, kernel=(1, 1), dtype="bfloat16"),
]


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_a_convolution(shape: ConvolutionShape) -> None:
    p = shape.problem()
    assert (
        shape_of(lambda: F.conv2d(p.image, p.weight, p.bias, *p.geometry), "convolution") == shape
    )


def test_a_transposed_convolution_is_the_image_gradient_of_one_the_other_way() -> None:
    small, weight = torch.rand(2, 6, 7, 7), torch.rand(6, 4, 2, 2)
    large = F.conv_transpose2d(small, weight, stride=2)
    found = shape_of(lambda: F.conv_transpose2d(small, weight, stride=2), "convolution")
    assert found.op == "conv2d_input_grad"
    assert found.numbers["input"] == tuple(large.shape)
    assert found.flop == 2 * small.numel() * weight[0].numel()


def test_nms() -> None:
    shape = NmsShape(name="", boxes=30, arrangement="clustered", iou_threshold=0.7)
    p = shape.problem()
    assert shape_of(lambda: nms(p.boxes, p.scores, p.iou_threshold), "NMS") == shape


def test_roi_align() -> None:
    shape = RoiAlignShape(
        name="", n=2, c=8, h=20, w=30, boxes=5, output_size=(7, 5), spatial_scale=0.25, aligned=True
    )
    p = shape.problem()
    call = (p.features, p.boxes, p.output_size, p.spatial_scale, p.sampling_ratio, p.aligned)
    assert shape_of(lambda: roi_align(*call), "RoI Align") == shape


def test_int8_gemm() -> None:
    shape = Int8GemmShape(name="", m=32, n=16, k=24)
    p = shape.problem()
    assert shape_of(lambda: torch._int_mm(p.a, p.b.T), "INT8 GEMM") == shape


def test_what_no_shape_describes_has_none() -> None:
    signal, weight = torch.rand(1, 2, 9), torch.rand(2, 2, 3)
    assert recorded(lambda: F.conv1d(signal, weight), "convolution").shapes == ()
    features, boxes = torch.rand(1, 2, 9, 9), torch.tensor([[0.0, 0, 0, 8, 8]])
    # With no sampling ratio the samples depend on the boxes' sizes, which no trace has.
    assert recorded(lambda: roi_align(features, boxes, (2, 2)), "RoI Align").shapes == ()


def test_the_work_of_other_ops_is_counted() -> None:
    x, weight, bias = torch.rand(4, 8), torch.rand(16, 8), torch.rand(16)
    (linear,) = recorded(lambda: F.linear(x, weight, bias), "aten::linear").work
    assert linear.flop == 2 * 4 * 8 * 16
    assert linear.bytes == 4 * (4 * 8 + 16 * 8 + 16 + 4 * 16)
    (relu,) = recorded(lambda: torch.relu(x), "aten::relu").work
    assert (relu.flop, relu.bytes) == (0, 2 * x.nbytes)
