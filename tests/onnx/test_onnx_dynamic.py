"""Shapes made by arithmetic: other batches and images, in eager mode and under torch.export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from cvperf.onnx import from_onnx
from tests.onnx.models import (
    Array,
    Case,
    assert_same,
    case,
    floats,
    graph_of,
    integers,
    model_of,
    number,
    restart,
)

restart()

Graph = tuple[list[onnx.NodeProto], dict[str, Array]]
SMALL, LARGE = floats(2, 4, 6, 8), floats(3, 4, 10, 14)
node = helper.make_node


def one(index: int, name: str) -> list[onnx.NodeProto]:
    """Element ``index`` of ``shape`` as a vector of one, in the words of torch's exporter."""
    return [
        node("Constant", [], [f"{name}_index"], value_int=index),
        node("Gather", ["shape", f"{name}_index"], [f"{name}_scalar"]),
        node("Unsqueeze", [f"{name}_scalar", "zero"], [name]),
    ]


def flatten() -> Graph:
    """x.view(x.shape[0], -1)"""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *one(0, "n"),
        node("Concat", ["n", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    return nodes, {"zero": integers(0), "minus": integers(-1)}


def channel_shuffle() -> Graph:
    """Groups of channels trade places; sizes are divided and cast as exporters do."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *(entry for index, name in enumerate("nchw") for entry in one(index, name)),
        node("Div", ["c", "two"], ["half"]),
        node("Cast", ["half"], ["half_32"], to=onnx.TensorProto.INT32),
        node("Cast", ["half_32"], ["half_64"], to=onnx.TensorProto.INT64),
        node("Concat", ["n", "two", "half_64", "h", "w"], ["split"], axis=0),
        node("Reshape", ["x", "split"], ["grouped"]),
        node("Transpose", ["grouped"], ["moved"], perm=[0, 2, 1, 3, 4]),
        node("Concat", ["n", "minus", "h", "w"], ["joined"], axis=0),
        node("Reshape", ["moved", "joined"], ["y"]),
    ]
    return nodes, {"zero": integers(0), "minus": integers(-1), "two": integers(2)}


def resize_to_peer() -> Graph:
    """F.interpolate(pooled, size=x.shape[2:])"""
    nodes = [
        node("MaxPool", ["x"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "two", "four", "zero"], ["size"]),
        node("Shape", ["small"], ["own"]),
        node("Slice", ["own", "zero", "two", "zero"], ["outer"]),
        node("Concat", ["outer", "size"], ["target"], axis=0),
        node("Resize", ["small", "", "", "target"], ["y"], mode="linear"),
    ]
    return nodes, {"zero": integers(0), "two": integers(2), "four": integers(4)}


def scaled_sizes() -> Graph:
    """Sizes through floats and a floor, as opset 9 upsampling was written."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Cast", ["shape"], ["floats"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["floats", "factors"], ["scaled"]),
        node("Floor", ["scaled"], ["whole"]),
        node("Cast", ["whole"], ["target"], to=onnx.TensorProto.INT64),
        node("Resize", ["x", "", "", "target"], ["y"], mode="nearest", nearest_mode="floor"),
    ]
    return nodes, {"factors": np.array([1, 1, 0.7, 1.5], np.float32)}


def expand() -> Graph:
    """row.expand(n, -1): a -1 is told from a size by ConstantOfShape, Equal and Where."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *one(0, "n"),
        node("Concat", ["n", "minus"], ["wanted"], axis=0),
        node("Shape", ["wanted"], ["length"]),
        node("ConstantOfShape", ["length"], ["ones"], value=helper.make_tensor("v", 7, [1], [1])),
        node("Mul", ["ones", "minus"], ["negative"]),
        node("Equal", ["wanted", "negative"], ["free"]),
        node("Where", ["free", "ones", "wanted"], ["target"]),
        node("Expand", ["row", "target"], ["y"]),
    ]
    return nodes, {"zero": integers(0), "minus": integers(-1), "row": floats(1, 5)}


def positions() -> Graph:
    """x plus a grid of columns made by Range, and zeros made by ConstantOfShape."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "three"], ["width"]),
        node("Range", ["start", "width", "step"], ["columns"]),
        node("Cast", ["columns"], ["grid"], to=onnx.TensorProto.FLOAT),
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("Add", ["x", "grid"], ["sum"]),
        node("Add", ["sum", "zeros"], ["y"]),
    ]
    numbers = {"three": 3, "start": 0, "step": 1}
    return nodes, {name: number(value, np.int64) for name, value in numbers.items()}


def crop() -> Graph:
    """x[:, :, : h // 2, 1 : w - 1], and padded to the first size again."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *one(2, "h"),
        *one(3, "w"),
        node("Div", ["h", "two"], ["half"]),
        node("Sub", ["w", "one"], ["end"]),
        node("Slice", ["x", "zero", "half", "two"], ["top"]),
        node("Slice", ["top", "one", "end", "three"], ["middle"]),
        node("Sub", ["h", "half"], ["missing"]),
        node("Concat", ["zeros", "missing", "two"], ["pads"], axis=0),
        node("Pad", ["middle", "pads"], ["y"]),
    ]
    constants = {"zero": integers(0), "one": integers(1), "two": integers(2), "three": integers(3)}
    return nodes, {**constants, "zeros": integers(0, 0, 0, 0, 0, 0)}


def same_padding() -> Graph:
    nodes = [
        node("Conv", ["x", "w"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node(
            "AveragePool", ["c"], ["y"], auto_pad="SAME_LOWER", kernel_shape=[3, 3], strides=[2, 2]
        ),
    ]
    return nodes, {"w": floats(5, 4, 3, 3)}


def pad_to_a_multiple() -> Graph:
    """F.pad(x, (0, -w % 5, 0, -h % 5)): torch's exporter turns the pads about as a matrix."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *(entry for index, name in ((2, "h"), (3, "w")) for entry in one(index, name)),
        *(node("Mod", [name, "five"], [f"{name}_rest"]) for name in "hw"),
        *(node("Sub", ["five", f"{name}_rest"], [f"{name}_missing"]) for name in "hw"),
        *(node("Mod", [f"{name}_missing", "five"], [f"{name}_pad"]) for name in "hw"),
        node("Concat", ["zero", "w_pad", "zero", "h_pad"], ["given"], axis=0),
        node("ConstantOfShape", ["four"], ["more"], value=helper.make_tensor("v", 7, [1], [0])),
        node("Concat", ["given", "more"], ["pairs"], axis=0),
        node("Reshape", ["pairs", "matrix"], ["rows"]),
        node("Slice", ["rows", "minus", "far", "zero", "minus"], ["turned"]),
        node("Transpose", ["turned"], ["columns"], perm=[1, 0]),
        node("Reshape", ["columns", "minus"], ["flat"]),
        node("Cast", ["flat"], ["pads"], to=onnx.TensorProto.INT64),
        node("Pad", ["x", "pads"], ["y"]),
    ]
    constants = {"zero": 0, "minus": -1, "four": 4, "five": 5, "far": -(2**63) + 1}
    return nodes, {**{n: integers(v) for n, v in constants.items()}, "matrix": integers(-1, 2)}


def number_of_elements() -> Graph:
    """The shape itself is an output, as a tensor."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("ReduceProd", ["shape"], ["count"], keepdims=0),
        node("Size", ["x"], ["same"]),
        node("Mul", ["count", "same"], ["y"]),
    ]
    return nodes, {}


def split_shape() -> Graph:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Split", ["shape", "halves"], ["outer", "inner"], axis=0),
        node("Identity", ["inner"], ["same"]),
        node("Concat", ["minus", "same"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    return nodes, {"halves": integers(2, 2), "minus": integers(-1)}


def max_of_sizes() -> Graph:
    """Comparison and choice on sizes."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *one(2, "h"),
        *one(3, "w"),
        node("Max", ["h", "w"], ["largest"]),
        node("Greater", ["w", "h"], ["wider"]),
        node("Cast", ["wider"], ["surely"], to=onnx.TensorProto.BOOL),
        node("Where", ["surely", "largest", "h"], ["chosen"]),
        node("Mod", ["chosen", "four"], ["rest"]),
        node("Neg", ["rest"], ["less"]),
        node("Add", ["chosen", "less"], ["length"]),
        node("Concat", ["length", "two"], ["target"], axis=0),
        node("ConstantOfShape", ["target"], ["y"]),
    ]
    return nodes, {"zero": integers(0), "four": integers(4), "two": integers(2)}


def branch(operator: str) -> onnx.GraphProto:
    """A function of ``x``, which lies outside, plus a weight of its own."""
    output = helper.make_tensor_value_info(f"{operator}_sum", 1, None)
    weight = helper.make_tensor(f"{operator}_weight", 1, [1], [2.5])
    nodes = [
        node(operator, ["x"], [operator]),
        node("Add", [operator, f"{operator}_weight"], [f"{operator}_sum"]),
    ]
    return helper.make_graph(nodes, operator, [], [output], [weight])


def narrower_or_wider() -> Graph:
    """A comparison of sizes that is false, through a cast: both branches, of which one is right."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        *one(2, "h"),
        *one(3, "w"),
        node("Greater", ["h", "w"], ["higher"]),
        node("Cast", ["higher"], ["surely"], to=onnx.TensorProto.BOOL),
        node("If", ["surely"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp")),
    ]
    return nodes, {"zero": integers(0)}


GRAPHS = [
    flatten,
    channel_shuffle,
    resize_to_peer,
    scaled_sizes,
    expand,
    positions,
    crop,
    same_padding,
    pad_to_a_multiple,
    narrower_or_wider,
    number_of_elements,
    split_shape,
    max_of_sizes,
]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
def test_sizes_are_free(graph: Callable[[], Graph], image: Array) -> None:
    nodes, constants = graph()
    assert_same(graph_of(nodes, {"x": image}, constants, ["y"]), image)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_torch_export_keeps_them_free(graph: Callable[[], Graph]) -> None:
    nodes, constants = graph()
    module = from_onnx(graph_of(nodes, {"x": SMALL}, constants, ["y"]))
    free = torch.export.Dim.DYNAMIC
    exported = torch.export.export(
        module, (torch.from_numpy(SMALL),), dynamic_shapes=({0: free, 2: free, 3: free},)
    ).module()
    for image in (SMALL, LARGE):
        x = torch.from_numpy(image)
        torch.testing.assert_close(exported(x), module(x), rtol=0, atol=0)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_tensors_are_made_on_the_device_of_the_input(graph: Callable[[], Graph]) -> None:
    """Tensors on the meta device mix with no others, as those of a GPU do not."""
    nodes, constants = graph()
    module = from_onnx(graph_of(nodes, {"x": SMALL}, constants, ["y"])).to("meta")
    assert module(torch.from_numpy(SMALL).to("meta")).device.type == "meta"


MAKERS = [
    case(
        "Resize",
        SMALL,
        constants=[None, None, integers(2, 4, 9, 9)],
        mode="cubic",
        nearest_mode="ceil",
    ),
    case(
        "Resize",
        SMALL,
        constants=[None, np.array([1, 1, 1.5, 0.6], np.float32)],
        nearest_mode="ceil",
    ),
    case("Pad", SMALL, constants=[integers(0, 0, 2, 2, 0, 0, 1, 1)], mode="reflect"),
    case("AveragePool", SMALL, kernel_shape=[3, 3], pads=[0, 1, 1, 0]),
    case("Slice", SMALL, constants=[integers(-1), integers(0), integers(3), integers(-1)]),
    case("QuantizeLinear", SMALL, constants=[number(0.1), number(3, np.uint8)]),
    case("OneHot", integers(0, 2), constants=[integers(4), floats(2)]),
    case("EyeLike", floats(3, 4)),
    case("GatherND", SMALL, constants=[integers(0, 1).reshape(2, 1)], batch_dims=1),
    case("GatherElements", SMALL, constants=[np.zeros((2, 4, 6, 1), np.int64)], axis=3),
    case(
        "GRU",
        floats(4, 2, 3),
        constants=[floats(1, 6, 3), floats(1, 6, 2)],
        hidden_size=2,
        outputs=2,
    ),
    case("LSTM", floats(4, 2, 3), constants=[floats(1, 8, 3), floats(1, 8, 2)], hidden_size=2),
    case("MaxPool", SMALL, kernel_shape=[2, 2], outputs=2),
]


@pytest.mark.parametrize("maker", MAKERS, ids=str)
def test_operators_that_make_tensors_mind_the_device(maker: Case) -> None:
    answer = from_onnx(model_of(maker)).to("meta")(torch.from_numpy(maker.inputs[0]).to("meta"))
    assert {y.device.type for y in (answer if isinstance(answer, tuple) else (answer,))} == {"meta"}


def test_shape_arithmetic_makes_no_tensors() -> None:
    nodes, constants = channel_shuffle()
    module = from_onnx(graph_of(nodes, {"x": SMALL}, constants, ["y"]))
    assert not list(module.buffers())
    called = [entry.target for entry in module.graph.nodes if entry.op == "call_function"]
    assert called.count(torch.reshape) == 2
    assert torch.cat not in called
    assert torch.tensor not in called


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_an_input_of_unknown_rank(rank: int) -> None:
    """Nothing is known of the shape while the file is read."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Neg", ["x"], ["less"]),
        node("Flatten", ["less"], ["flat"]),
        node("Reshape", ["flat", "shape"], ["back"]),
        node("Unsqueeze", ["back", "axis"], ["deeper"]),
        node("Transpose", ["deeper"], ["y"]),
    ]
    image = floats(*(2, 3, 4, 5)[:rank])
    model = graph_of(nodes, {"x": image}, {"axis": integers(-1)}, ["y"])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert_same(model, image)


@pytest.mark.parametrize("image", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("on", ["sizes", "values"])
def test_a_branch_that_depends_on_the_input(image: Array, on: str) -> None:
    if on == "sizes":
        decide = [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "three"], ["width"]),
            node("Less", ["width", "ten"], ["c"]),
        ]
    else:
        decide = [
            node("ReduceMax", ["x"], ["largest"], keepdims=0),
            node("Less", ["largest", "middle"], ["c"]),
        ]
    constants = {"three": number(3, np.int64), "ten": number(10, np.int64)}
    constants["middle"] = number(float(SMALL.max() + LARGE.max()) / 2)
    chosen = node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp"))
    assert_same(graph_of([*decide, chosen], {"x": image}, constants, ["y"]), image)


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_whose_condition_is_known_is_taken(condition: bool) -> None:
    chosen = node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp"))
    assert_same(graph_of([chosen], {"x": SMALL}, {"c": np.array(condition)}, ["y"]), SMALL)
