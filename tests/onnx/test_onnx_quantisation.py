"""Quantised models in float: the integers are ONNX Runtime's, give or take the last rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from cvperf.onnx import from_onnx
from tests.onnx.models import (
    Array,
    Case,
    assert_same,
    case,
    check,
    floats,
    graph_of,
    model_of,
    number,
    peer,
    positive,
    restart,
    whole,
)

restart()

IMAGE = floats(2, 3, 6, 6)
SCALE, SCALES = number(0.05), positive(3) / 10
BYTES = whole(2, 3, 6, 6, low=0, high=255, dtype=np.uint8)
# Of 7 bits: without VNNI, ONNX Runtime adds two products of bytes in 16 bits, cutting what is more.
FILTERS = whole(4, 3, 3, 3, low=-64, high=64, dtype=np.int8)
ZERO = number(120, np.uint8)

EXACT = [
    case("QuantizeLinear", IMAGE, constants=[SCALE, ZERO]),
    case("QuantizeLinear", IMAGE, constants=[SCALE], opset=10),
    case("QuantizeLinear", IMAGE, constants=[SCALES, np.array([3, 7, 9], np.int8)], axis=1),
    case("DequantizeLinear", BYTES, constants=[SCALE, ZERO]),
    case("DequantizeLinear", BYTES, constants=[SCALE]),
    case("DequantizeLinear", BYTES, constants=[SCALES, np.array([3, 7, 9], np.uint8)], axis=1),
    case(
        "DequantizeLinear",
        whole(4, 6, dtype=np.int8),
        constants=[positive(4, 2)],
        block_size=3,
        opset=21,
    ),
    case("MatMulInteger", BYTES, constants=[whole(6, 4, dtype=np.int8), ZERO, number(3, np.int8)]),
    case("ConvInteger", BYTES, constants=[FILTERS.astype(np.uint8), ZERO, ZERO], pads=[1] * 4),
]
ROUNDED = [
    case(
        "QLinearConv",
        BYTES,
        constants=[SCALE, ZERO, FILTERS, *weight, number(0.9), ZERO, *bias],
        pads=[0, 1, 1, 1],
        strides=[2, 1],
    )
    for weight in ([number(0.02), number(0, np.int8)], [positive(4) / 25, np.zeros(4, np.int8)])
    for bias in ([], [whole(4, dtype=np.int32)])
] + [
    case(
        "QLinearMatMul",
        BYTES,
        constants=[
            SCALE,
            ZERO,
            whole(6, 4, dtype=np.int8),
            number(0.0137),
            number(1, np.int8),
            number(0.011),
            ZERO,
        ],
    )
]


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_exact(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_products_round_to_the_same_integers_or_their_neighbours(case: Case) -> None:
    model = model_of(case)
    (wanted,) = peer(model, BYTES)
    found = from_onnx(model)(torch.from_numpy(BYTES)).numpy()
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.03
    assert wanted.std() > 10  # neither is all at a limit


def quantised_layer() -> tuple[list[object], dict[str, Array]]:
    """Quantise, dequantise, convolve with quantised filters: what QDQ files have a layer of."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["filters", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    zeros = np.zeros(4, np.int8)
    constants = {"scale": SCALE, "zero": ZERO, "filters": FILTERS, "zeros": zeros}
    return nodes, {**constants, "scales": positive(4) / 100}


def test_filters_are_dequantised_once() -> None:
    nodes, constants = quantised_layer()
    model = graph_of(nodes, {"x": IMAGE}, constants, ["y"])
    assert_same(model, IMAGE)
    module = from_onnx(model)
    assert [(n, p.dtype, p.shape) for n, p in module.named_parameters()] == [
        ("filters", torch.float32, FILTERS.shape)
    ]
