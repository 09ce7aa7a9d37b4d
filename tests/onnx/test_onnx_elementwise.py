"""Arithmetic, activations, comparison and reductions against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvperf.onnx import from_onnx
from cvperf.onnx.operators.elementwise import BINARY, UNARY
from tests.onnx.models import (
    Case,
    case,
    check,
    floats,
    integers,
    model_of,
    number,
    positive,
    restart,
    whole,
)

restart()

X, Y, ROW = floats(2, 3, 4), floats(2, 3, 4), floats(4)
TRUTHS = [X > 0, Y > 0]
# Where functions are defined, and what ONNX Runtime lacks on the CPU.
DOMAINS = {
    **dict.fromkeys(("Log", "Sqrt", "Reciprocal", "Acosh"), positive(2, 3, 4) + 1),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), positive(2, 3, 4) / 2),
    "Not": TRUTHS[0],
    "BitwiseNot": whole(2, 3, 4),
}
LOGICAL = ("And", "Or", "Xor")
BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
COMPARED = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")

SIMPLE = [case(name, DOMAINS.get(name, X), opset=18) for name in sorted(UNARY)]
PAIRS = [
    *(case(name, X, Y) for name in ("Add", "Sub", "Mul", "Div", *COMPARED)),
    *(case(name, X, constants=[ROW]) for name in ("Add", "Sub", "Mul", "Div", *COMPARED)),
    *(case(name, X, constants=[number(2.5)]) for name in ("Add", "Sub", "Mul", "Div", *COMPARED)),
    *(case(name, X, constants=[number(2.5)[None]]) for name in ("Add", "Sub", "Mul", "Div")),
    *(case(name, whole(2, 3), whole(3, low=1)) for name in ("Add", "Sub", "Mul", "Div", *COMPARED)),
    case("Mul", X, constants=[number(1.0)]),
    case("Mul", X, constants=[np.ones((1, 1, 1, 1), np.float32)]),
    case("Add", floats(4), constants=[floats(1, 1)]),
    case("Div", whole(2, 3), constants=[number(-4, np.int64)]),
    *(case(name, *TRUTHS) for name in LOGICAL),
    *(case(name, whole(2, 3), whole(3), opset=18) for name in BITWISE),
    case("Mod", whole(2, 3), whole(3, low=1)),
    case("Mod", X, Y, fmod=1),
    case("Pow", positive(2, 3), constants=[number(0.5)]),
    case("Pow", X, constants=[number(2, np.int64)]),
    case("Pow", whole(2, 3), constants=[number(2, np.int64)]),
    case("Pow", positive(2, 3), floats(3)),
    case(
        "BitShift",
        whole(2, 3, low=0, dtype=np.uint8),
        constants=[number(2, np.uint8)],
        direction="LEFT",
    ),
    *(case(name, X, Y, ROW, opset=o) for name in ("Min", "Max", "Sum", "Mean") for o in (8, 13)),
    case("Max", X),
    case("Where", TRUTHS[0], X, ROW),
    case("Where", TRUTHS[0], constants=[number(1.0), number(2.0)]),
]
ACTIVATIONS = [
    case("Clip", X, opset=7, min=-0.5, max=0.5),
    case("Clip", X, opset=7, max=0.5),
    case("Clip", X * 9, opset=7, min=0.0, max=6.0),
    case("Clip", X * 9, constants=[number(0.0), number(6.0)]),
    case("Clip", X, constants=[number(0.0)]),
    case("Clip", X, constants=[None, number(0.3)]),
    case("Clip", X, number(-0.2), number(0.2)),
    case("Clip", whole(2, 3), constants=[number(-2, np.int64), number(3, np.int64)]),
    case("LeakyRelu", X),
    case("LeakyRelu", X, alpha=0.3),
    *(case("PRelu", floats(2, 3, 4, 5), constants=[floats(*s)]) for s in ((3, 1, 1), (1,), (4, 5))),
    case("PRelu", X, floats(4)),
    case("PRelu", floats(2, 3), constants=[floats(3)]),
    case("Elu", X, alpha=0.7),
    case("Celu", X, alpha=0.7),
    case("Selu", X),
    case("Selu", X, alpha=1.5, gamma=2.0),
    case("ThresholdedRelu", X, alpha=0.4),
    case("Shrink", X, bias=0.1, lambd=0.4),
    case("HardSigmoid", X * 4),
    case("HardSigmoid", X * 4, alpha=1 / 6),
    case("Gelu", X, opset=20),
    case("Gelu", X, opset=20, approximate="tanh"),
    *(
        case(name, floats(2, 3, 4, 5), opset=o, **axis)
        for name in ("Softmax", "LogSoftmax", "Hardmax")
        for o in (7, 11, 13)
        for axis in ({}, {"axis": 1}, {"axis": 2}, {"axis": -1}, {"axis": 3})
        if o > 7 or axis != {"axis": -1}
    ),
    case("IsInf", np.array([1.0, np.inf, -np.inf], np.float32)),
    case("IsInf", np.array([1.0, np.inf, -np.inf], np.float32), detect_negative=0),
    case("Cast", X * 5, to=7),
    case("Cast", X, to=9),
    case("Cast", X, to=11),
    case("Cast", TRUTHS[0], to=1),
    case("Cast", whole(2, 3), to=2),
    case("CastLike", X, whole(1)),
    case("Dropout", X),
    case("Dropout", X, opset=10, ratio=0.4),
    case("Identity", X),
]
REDUCED = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
AXES: list[dict[str, object]] = [
    {},
    {"axes": [1]},
    {"axes": [0, -1]},
    {"axes": [1, 2], "keepdims": 0},
]
REDUCTIONS = [
    *(
        case(f"Reduce{name}", positive(2, 3, 4), opset=11, **axes)
        for name in REDUCED
        for axes in AXES
    ),
    *(
        case(
            f"Reduce{name}", positive(2, 3, 4), constants=[integers(*axes)], opset=18, keepdims=keep
        )
        for name in REDUCED
        for axes, keep in (((1,), 1), ((0, 2), 0))
    ),
    case("ReduceSum", whole(2, 3, dtype=np.int32), constants=[integers(1)]),
    case("ReduceMean", whole(2, 3, dtype=np.int32), axes=[1]),
    case("ReduceMax", whole(2, 3), axes=[1]),
    case("ReduceSum", X, noop_with_empty_axes=1),
    *(
        case(name, whole(3, 4, 5, low=0, high=3), axis=axis, keepdims=keep, select_last_index=last)
        for name in ("ArgMax", "ArgMin")
        for axis, keep, last in ((0, 1, 0), (1, 0, 0), (-1, 1, 1))
    ),
    case("TopK", floats(3, 7), constants=[integers(3)], outputs=2),
    case("TopK", whole(7, 3, low=0, high=3), constants=[integers(4)], outputs=2, axis=0),
    case("TopK", floats(3, 7), constants=[integers(2)], outputs=2, largest=0, opset=11),
    case("TopK", floats(3, 7), k=3, outputs=2, opset=7),
    *(
        case("CumSum", floats(3, 4), constants=[number(1, np.int64)], exclusive=e, reverse=r)
        for e in (0, 1)
        for r in (0, 1)
    ),
]


@pytest.mark.parametrize("case", SIMPLE, ids=str)
def test_functions_of_one_element(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_functions_of_several(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activations(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", REDUCTIONS, ids=str)
def test_reductions(case: Case) -> None:
    check(case)


def test_every_pair_function_has_a_case() -> None:
    assert set(BINARY) <= {entry.operator for entry in PAIRS}


@pytest.mark.parametrize(
    ("bounds", "function"),
    [((0.0, 6.0), torch.nn.functional.relu6), ((0.0, None), torch.nn.functional.relu)],
)
def test_clips_that_are_activations_become_these(
    bounds: tuple[float, float], function: object
) -> None:
    constants = [None if bound is None else number(bound) for bound in bounds]
    module = from_onnx(model_of(case("Clip", X, constants=constants)))
    assert [n.target for n in module.graph.nodes if n.op == "call_function"] == [function]


def test_a_number_of_the_file_is_a_number_of_the_graph() -> None:
    module = from_onnx(model_of(case("Add", X, constants=[number(3.0)])))
    assert [node.args[1] for node in module.graph.nodes if node.op == "call_function"] == [3.0]
    assert not list(module.buffers())
