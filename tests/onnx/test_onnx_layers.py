"""Layers with weights, and pools, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvperf.onnx import from_onnx
from tests.onnx.models import Case, case, check, floats, model_of, positive, restart

restart()

IMAGE = floats(2, 4, 9, 11)
LINE, VOLUME = floats(2, 4, 13), floats(2, 4, 5, 6, 7)
FILTERS, BIAS = floats(6, 4, 3, 3), floats(6)
BACK = floats(4, 6, 3, 3)
TOKENS = floats(5, 3, 4)

CONVOLUTIONS = [
    case("Conv", IMAGE, constants=[FILTERS, BIAS]),
    case("Conv", IMAGE, constants=[FILTERS], kernel_shape=[3, 3], pads=[1, 1, 1, 1], opset=7),
    case("Conv", IMAGE, constants=[FILTERS, BIAS], strides=[2, 1], dilations=[1, 2]),
    case("Conv", IMAGE, constants=[FILTERS, BIAS], pads=[0, 1, 2, 3]),
    case("Conv", IMAGE, constants=[floats(8, 1, 3, 3), floats(8)], group=4, pads=[1] * 4),
    case("Conv", IMAGE, constants=[FILTERS, BIAS], auto_pad="VALID", strides=[2, 2]),
    *(
        case("Conv", IMAGE, constants=[weight, BIAS], auto_pad=how, strides=strides, dilations=d)
        for how in ("SAME_UPPER", "SAME_LOWER")
        for weight in (FILTERS, floats(6, 4, 2, 4))
        for strides in ([1, 1], [2, 3])
        for d in ([1, 1],)
    ),
    case("Conv", LINE, constants=[floats(6, 4, 5), BIAS], pads=[2, 2], strides=[2]),
    case("Conv", LINE, constants=[floats(6, 4, 5)], pads=[0, 3]),
    case("Conv", VOLUME, constants=[floats(6, 4, 3, 3, 3), BIAS], pads=[1] * 6),
    case("Conv", IMAGE, FILTERS, BIAS),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS]),
    case("ConvTranspose", IMAGE, constants=[BACK], strides=[2, 2], pads=[1] * 4, opset=7),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 3], pads=[0, 1, 2, 1]),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], dilations=[2, 2], pads=[1] * 4),
    case("ConvTranspose", IMAGE, constants=[floats(4, 3, 2, 2)], group=2, strides=[2, 2]),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 2], auto_pad="VALID"),
    case("ConvTranspose", IMAGE, constants=[BACK, BIAS], strides=[2, 2], output_shape=[18, 21]),
    case("ConvTranspose", LINE, constants=[floats(4, 6, 3), BIAS], strides=[2]),
    case("ConvTranspose", VOLUME, constants=[floats(4, 6, 2, 2, 2)], strides=[2, 2, 2]),
    case("ConvTranspose", IMAGE, BACK, strides=[2, 2]),
]
SAMES = [{"auto_pad": how} for how in ("SAME_UPPER", "SAME_LOWER", "VALID")]
POOLS = [
    *(
        case(operator, IMAGE, kernel_shape=[3, 2], opset=opset, **options)
        for opset in (7, 11, 19)
        for operator in ("MaxPool", "AveragePool")
        for options in (
            {},
            {"strides": [2, 2]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 1], "pads": [0, 1, 2, 0]},
            *({"strides": [2, 2], **same} for same in SAMES),
        )
    ),
    *(
        case(operator, IMAGE, kernel_shape=[3, 3], strides=[s, s], pads=pads, ceil_mode=1, opset=19)
        for operator in ("MaxPool", "AveragePool")
        for s in (2, 3)
        for pads in ([0] * 4, [1] * 4, [0, 1, 1, 0])
    ),
    *(
        case("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], count_include_pad=1, **pads)
        for pads in ({"pads": [1] * 4}, {"pads": [0, 1, 2, 1]}, {"auto_pad": "SAME_UPPER"})
    ),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], dilations=[2, 2], opset=19),
    case("MaxPool", IMAGE, kernel_shape=[3, 3], dilations=[2, 1], pads=[1] * 4),
    case("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[2, 2], outputs=2),
    case("MaxPool", LINE, kernel_shape=[3], pads=[1, 1]),
    case("MaxPool", VOLUME, kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
    case("AveragePool", LINE, kernel_shape=[3], pads=[1, 0]),
    case("AveragePool", VOLUME, kernel_shape=[2, 2, 2]),
    case("LpPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], p=2, opset=18),
    *(
        case(operator, data)
        for operator in ("GlobalAveragePool", "GlobalMaxPool")
        for data in (IMAGE, LINE, VOLUME)
    ),
]
NORMS = [
    *(
        case(
            "BatchNormalization",
            data,
            constants=[*(floats(4) for _ in "wbm"), positive(4)],
            opset=o,
        )
        for data in (IMAGE, LINE, VOLUME, floats(5, 4))
        for o in (7, 9, 14, 15)
    ),
    case("InstanceNormalization", IMAGE, constants=[floats(4), floats(4)], epsilon=1e-3),
    case("InstanceNormalization", LINE, constants=[floats(4), floats(4)]),
    case("LayerNormalization", TOKENS, constants=[floats(4), floats(4)]),
    case("LayerNormalization", TOKENS, constants=[floats(4)], epsilon=1e-2),
    case("LayerNormalization", TOKENS, constants=[floats(3, 4), floats(3, 4)], axis=1),
    case("GroupNormalization", IMAGE, constants=[floats(4), floats(4)], num_groups=2, opset=21),
    case("LpNormalization", IMAGE, axis=1, p=2),
    case("LpNormalization", IMAGE, axis=-1, p=1),
    case("MeanVarianceNormalization", IMAGE, opset=13),
    *(case("LRN", IMAGE, size=size, alpha=0.1, beta=0.6, bias=1.5) for size in (1, 3, 5)),
]
PRODUCTS = [
    case("MatMul", floats(3, 5), constants=[floats(5, 4)]),
    case("MatMul", floats(2, 3, 5), constants=[floats(5, 4)]),
    case("MatMul", floats(2, 3, 5), constants=[floats(2, 5, 4)]),
    case("MatMul", floats(2, 3, 5), floats(5, 4)),
    case("MatMul", floats(5), constants=[floats(5, 4)]),
    case("MatMul", floats(3, 5), constants=[floats(5)]),
    *(
        case("Gemm", floats(3, 5), constants=[w, b], transB=t, alpha=alpha, beta=beta, opset=o)
        for t, w in ((0, floats(5, 4)), (1, floats(4, 5)))
        for b in (floats(4), floats(3, 4), floats(1), None)
        for alpha, beta in ((1.0, 1.0), (0.5, 2.0))
        for o in (9, 13)
        if b is not None or o == 13
    ),
    case("Gemm", floats(5, 3), floats(5, 4), floats(4), transA=1),
    case("Einsum", floats(2, 3, 4), floats(2, 4, 5), equation="bij,bjk->bik"),
    case("Einsum", floats(3, 4), equation="ij->ji"),
]


def recurrent(operator: str, gates: int, direction: str, outputs: int, **options: object) -> Case:
    """Five steps, a batch of 3, 4 numbers in, 6 out."""
    ways = 2 if direction == "bidirectional" else 1
    states = [floats(ways, 3, 6) for _ in range(outputs - 1)]
    constants = [
        floats(ways, gates * 6, 4),
        floats(ways, gates * 6, 6),
        floats(ways, 2 * gates * 6),
    ]
    return case(
        operator,
        TOKENS,
        constants=[*constants, None, *states],
        opset=14,
        outputs=outputs,
        hidden_size=6,
        direction=direction,
        **options,
    )


DIRECTIONS = ("forward", "reverse", "bidirectional")
RECURRENT = [
    *(recurrent("LSTM", 4, direction, 3) for direction in DIRECTIONS),
    *(
        recurrent("GRU", 3, direction, 2, linear_before_reset=after)
        for direction in DIRECTIONS
        for after in (0, 1)
    ),
    *(recurrent("RNN", 1, direction, 2) for direction in DIRECTIONS),
    case("LSTM", TOKENS, constants=[floats(1, 24, 4), floats(1, 24, 6)], hidden_size=6, opset=7),
    case("GRU", TOKENS, constants=[floats(1, 18, 4), floats(1, 18, 6)], hidden_size=6, opset=7),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_pools(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", NORMS, ids=str)
def test_normalisations(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
def test_products(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_recurrent_layers(case: Case) -> None:
    check(case)


def test_max_pool_takes_integers() -> None:
    image = np.arange(-32, 32, dtype=np.int8).reshape(1, 1, 8, 8)
    check(case("MaxPool", image, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))


def test_weights_are_parameters_and_the_graph_calls_torch() -> None:
    module = from_onnx(model_of(case("Conv", IMAGE, constants=[FILTERS, BIAS])))
    assert {name: p.shape for name, p in module.named_parameters()} == {
        "w0": FILTERS.shape,
        "w1": BIAS.shape,
    }
    called = {node.target for node in module.graph.nodes if node.op == "call_function"}
    assert called == {torch.nn.functional.conv2d}
    answer = module(torch.from_numpy(IMAGE))
    answer.sum().backward()
    assert module.w0.grad is not None


def test_statistics_of_batch_norm_are_buffers() -> None:
    constants = [*(floats(4) for _ in "wbm"), positive(4)]
    module = from_onnx(model_of(case("BatchNormalization", IMAGE, constants=constants)))
    assert [name for name, _ in module.named_parameters()] == ["w0", "w1"]
    assert [name for name, _ in module.named_buffers()] == ["w2", "w3"]
