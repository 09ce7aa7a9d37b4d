"""What a convolution in CUDA C++ should take, and how it is tiled."""

from __future__ import annotations

import math

import pytest

from cvperf.backends.cuda import conv2d_depthwise_plan as depthwise
from cvperf.backends.cuda import conv2d_plan as plan
from cvperf.backends.cuda import shipped_conv2d
from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.model import A100, B200, H100, LAUNCH_S, Architecture
from cvperf.backends.gpu.shipped_conv2d import LAYERS

each_gpu = pytest.mark.parametrize("gpu", [A100, H100, B200], ids=lambda gpu: gpu.name)


def layer(
    images: int, channels: int, size: int, kernel: int = 3, stride: int = 1, filters: int = 1
) -> Layer:
    """Depthwise, padded to keep its size."""
    image, weight = (images, channels, size, size), (channels * filters, 1, kernel, kernel)
    return Layer.of(image, weight, (stride,) * 2, (kernel // 2,) * 2, (1, 1), channels)


@each_gpu
def test_nothing_that_ships_is_predicted_below_its_roofline(gpu: Architecture) -> None:
    for call in shipped_conv2d.calls():
        assert 0 < call.share(gpu) <= 1, (call.op, call.name)


@each_gpu
def test_no_depthwise_convolution_is_predicted_below_its_roofline(gpu: Architecture) -> None:
    for one in (
        *(layer(1, 3, 5), layer(1, 96, 1, kernel=1), layer(8, 48, 33, kernel=7, stride=3)),
        *(layer(64, 512, 64), layer(4, 24, 30, kernel=5, filters=3), layer(2, 40, 16, stride=4)),
    ):
        for size in (1, 2):
            for turned in (False, True):
                gather = Gather(one, size, size, turned, residual=not turned)
                assert 0 < depthwise.predicted_share(gpu, gather) <= 1, gather
        assert 0 < depthwise.weight_grad_predicted_share(gpu, one, 2) <= 1, one


@each_gpu
def test_blocks_cover_the_output_and_fill_their_threads(gpu: Architecture) -> None:
    for one in (layer(32, 96, 112), layer(1, 672, 14, kernel=5), layer(2, 20, 7), layer(1, 8, 1)):
        for turned in (False, True):
            tiling = depthwise.Tiling.of(gpu, Gather(one, 2, 2, turned))
            shared = tiling.lanes * tiling.strips * tiling.lines
            covered = tiling.blocks * shared * tiling.vector * 4
            assert covered >= one.images * one.groups * one.height * one.width
            assert shared <= tiling.threads <= 128


def test_small_problems_get_small_blocks() -> None:
    small, large = layer(1, 672, 14, kernel=5), layer(32, 96, 112)
    assert depthwise.Tiling.of(H100, Gather(small, 2, 2)).threads <= 64
    assert depthwise.Tiling.of(H100, Gather(large, 2, 2)).threads > 64


def test_an_empty_batch_takes_its_launches() -> None:
    assert depthwise.predicted(H100, Gather(layer(0, 32, 8), 2, 2)) == 2 * LAUNCH_S
    assert depthwise.Tiling.of(H100, Gather(layer(0, 32, 8), 2, 2)).blocks == 0


@each_gpu
def test_int8_is_predicted_1_6_times_as_fast_as_float16(gpu: Architecture) -> None:
    """Without launches, over the dense layers that copies of 16 bytes read."""
    ratios = []
    for images, channels, size, filters, kernel, stride, groups in LAYERS.values():
        if groups > 1 or channels % 16:
            continue
        image, weight = (images, channels, size, size), (filters, channels, kernel, kernel)
        one = Layer.of(image, weight, (stride,) * 2, (kernel // 2,) * 2, (1, 1), 1)
        times = [
            plan.predicted_best(
                gpu, plan.FORWARD[kind][True], plan.forward_product(one, kind, bytes, bytes)
            )
            for kind, bytes in (("half", 2), ("int8", 1))
        ]
        if images > 1:
            ratios.append((times[0] - LAUNCH_S) / (times[1] - LAUNCH_S))
    assert math.prod(ratios) ** (1 / len(ratios)) >= 1.6, ratios


def test_the_tile_follows_the_layer() -> None:
    def pick(channels: int, size: int, filters: int, images: int = 32) -> str:
        sizes = (images, channels, size, size), (filters, channels, 3, 3)
        one = Layer.of(*sizes, (1, 1), (1, 1), (1, 1), 1)
        case = plan._Case(A100, plan.FORWARD["half"][True], plan.forward_product(one, "half", 2, 2))
        return plan._likeliest(case)

    assert pick(64, 56, 64) == "narrow"
    assert pick(256, 56, 256) == "square"
    assert pick(256, 7, 256, images=1) == "small"
