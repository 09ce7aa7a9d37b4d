"""What a convolution in Triton should take, and the tiles that the model picks for it."""

from __future__ import annotations

import pytest

from cvperf.backends.gpu.conv2d_depthwise_model import Gather
from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.model import A100, B200, H100, LAUNCH_S, Architecture
from cvperf.backends.triton import conv2d_depthwise_plan as depthwise

each_gpu = pytest.mark.parametrize("gpu", [A100, H100, B200], ids=lambda gpu: gpu.name)


def layer(
    images: int, channels: int, size: int, kernel: int = 3, stride: int = 1, filters: int = 1
) -> Layer:
    """Depthwise, padded to keep its size."""
    image, weight = (images, channels, size, size), (channels * filters, 1, kernel, kernel)
    return Layer.of(image, weight, (stride,) * 2, (kernel // 2,) * 2, (1, 1), channels)


@each_gpu
def test_no_depthwise_convolution_is_predicted_below_its_roofline(gpu: Architecture) -> None:
    for one in (
        *(layer(1, 3, 5), layer(1, 96, 1, kernel=1), layer(8, 48, 33, kernel=7, stride=3)),
        *(layer(64, 512, 64), layer(4, 24, 30, kernel=5, filters=3), layer(2, 40, 16, stride=4)),
    ):
        for size in (1, 2, 4):
            for turned in (False, True):
                gather = Gather(one, size, size, turned, residual=not turned)
                assert 0 < depthwise.predicted_share(gpu, gather) <= 1, gather
            assert 0 < depthwise.weight_grad_predicted_share(gpu, one, size) <= 1, one


@each_gpu
def test_a_layer_picks_the_tile_that_it_fills(gpu: Architecture) -> None:
    def pick(one: Layer) -> str:
        return depthwise._likeliest(gpu, Gather(one, 2, 2))

    assert pick(layer(1, 672, 14, kernel=5)) == "small"
    assert pick(layer(32, 256, 56, kernel=5)) == "large"
    assert pick(layer(32, 32, 112, kernel=5)) == "narrow"


def test_more_taps_read_more_of_l1_and_strides_more_of_l2() -> None:
    config = depthwise.SPACE.shipped[90]["large"]

    def took(gpu: Architecture, kernel: int, stride: int = 1) -> float:
        one = layer(32, 64, 112 * stride, kernel, stride)
        return depthwise.predicted(gpu, config, Gather(one, 2, 2))

    assert took(H100, 7) > took(H100, 5) > took(H100, 3)
    assert took(H100, 3, 2) > took(H100, 3)


def test_an_empty_batch_takes_its_launches() -> None:
    gather = Gather(layer(0, 32, 8), 2, 2)
    config = depthwise.SPACE.shipped[90]["large"]
    assert depthwise.predicted(H100, config, gather) == 2 * LAUNCH_S
    assert depthwise.weight_grad_predicted(H100, layer(0, 32, 8), 2) >= 3 * LAUNCH_S
