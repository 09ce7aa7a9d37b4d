"""The shape lists hold what the networks call, and the loader says what is wrong with a bad one."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from cvperf.bench import shapes
from cvperf.bench.peers.ours import OURS
from cvperf.bench.problems.conv2d import ConvolutionShape
from cvperf.bench.problems.int8_gemm import Int8GemmShape
from cvperf.bench.shapes import OPS, ShapesError, load, parse
from cvperf.benchmarks import generate_shapes
from cvperf.benchmarks.networks import NETWORKS

COMMAND = "python -m cvperf.benchmarks.generate_shapes"


@cache
def traced(file: str) -> list[dict[str, Any]]:
    return yaml.safe_load((generate_shapes.FOLDER / file).read_text())["traced"]


@cache
def calls_of(net: str, file: str) -> Counter[Any]:
    """The layers of ``file`` that a network calls at batch 1, and how often."""
    calls: Counter[Any] = Counter()
    for line in traced(file):
        batch = {"n": 1} if file == "conv2d.yaml" else {"m": 1}
        (shape,) = parse(yaml.safe_dump({"shapes": [line | batch]}), file)
        calls[shape] = line["nets"].get(net, 0)
    return +calls


@pytest.mark.parametrize("file", generate_shapes.TRACED)
def test_traced_layers_are_what_the_networks_call(file: str) -> None:
    path = generate_shapes.FOLDER / file
    expected = generate_shapes.rewritten(path, generate_shapes.TRACED[file])
    assert path.read_text() == expected, f"{file} is not what tracing gives: run {COMMAND}"


@pytest.mark.parametrize("net", NETWORKS)
def test_convolutions_are_those_that_a_forward_pass_makes(net: str) -> None:
    """Forward hooks see the same calls as the graph, with the sizes the shapes compute."""
    network = NETWORKS[net]
    seen: Counter[tuple[Any, ...]] = Counter()

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = module.get_parameter("weight")
        geometry = (module.stride, module.padding, module.dilation, module.groups)
        seen[(tuple(inputs[0].shape), tuple(weight.shape), *geometry, tuple(output.shape))] += 1

    with torch.device("meta"), torch.no_grad():
        model = network.build().eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(record)
        model(torch.empty(1, network.channels, network.size, network.size))

    listed: Counter[tuple[Any, ...]] = Counter()
    for shape, count in calls_of(net, "conv2d.yaml").items():
        names = ("input", "weight", "stride", "padding", "dilation", "groups")
        output = (1, shape.o, *shape.output_size)
        listed[(*(shape.numbers[name] for name in names), output)] += count
    assert listed == seen


@pytest.mark.parametrize("net", ["resnet50", "mobilenet_v2", "efficientnet_b0", "vgg16"])
def test_multiply_adds_are_those_that_torchvision_publishes(net: str) -> None:
    from torchvision.models import get_model_weights

    published = get_model_weights(net)["IMAGENET1K_V1"].meta["_ops"]  # 10^9 multiply-adds
    listed = sum(
        count * shape.flop / 2
        for file in generate_shapes.TRACED
        for shape, count in calls_of(net, file).items()
    )
    assert listed / 1e9 == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("net", "calls", "distinct"),
    [("resnet50", 53, 23), ("mobilenet_v2", 52, 30), ("vgg16", 13, 9), ("unet", 19, 15)],
)
def test_convolutions_are_as_many_as_counted_by_hand_in_the_papers(
    net: str, calls: int, distinct: int
) -> None:
    layers = calls_of(net, "conv2d.yaml")
    assert (layers.total(), len(layers)) == (calls, distinct)


@pytest.mark.parametrize(("net", "published"), [("unet", 31_030_658), ("yolo", 4_171_456)])
def test_own_networks_have_the_parameters_of_the_published_plan(net: str, published: int) -> None:
    with torch.device("meta"):
        model = NETWORKS[net].build()
    trained = sum(parameter.numel() for parameter in model.parameters())
    assert trained == published


@pytest.mark.parametrize(
    ("net", "name", "count"),
    [
        ("resnet50", "7x7 3-64 224x224 s2 relu n1", 1),
        ("resnet50", "1x1 64-256 56x56 n1", 4),  # before the sum with the skip: no ReLU
        ("resnet50", "3x3 256-256 14x14 relu n1", 5),
        ("mobilenet_v2", "dw3x3 384 14x14 relu6 n1", 4),
        ("mobilenet_v2", "1x1 960-320 7x7 n1", 1),  # linear bottleneck
        ("efficientnet_b0", "1x1 1152-48 1x1 silu n1", 4),
        ("efficientnet_b0", "1x1 48-1152 1x1 sigmoid n1", 4),
        ("vgg16", "3x3 512-512 14x14 relu n1", 3),
        ("unet", "1x1 64-2 256x256 n1", 1),
        ("yolo", "6x6 3-32 640x640 s2 silu n1", 1),
    ],
)
def test_what_follows_a_layer_is_fused(net: str, name: str, count: int) -> None:
    calls = {shape.name: count for shape, count in calls_of(net, "conv2d.yaml").items()}
    assert calls[name] == count


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_quick_subset_and_unique_names(op: str) -> None:
    every, quick = load(op), load(op, quick=True)
    assert 0 < len(quick) < len(every)
    assert max(Counter(shape.name for shape in every).values()) == 1
    assert {shape.op for shape in every} == {op}
    assert all(shape.quick for shape in quick)


def test_quick_subset_of_all_ops_stays_small() -> None:
    assert len(load(quick=True)) <= 42


@pytest.mark.parametrize("op", OPS)
def test_shapes_make_problems_that_cvperf_solves(op: str) -> None:
    shape = min(load(op), key=lambda shape: (shape.size, shape.bytes))
    problem = shape.problem()
    assert problem.error(problem.reference(), OURS.contender(problem).once()) <= problem.tolerance


def test_layers_are_listed_at_batch_1_and_8() -> None:
    of = [s for s in load("conv2d") if isinstance(s, ConvolutionShape) and s.dtype == "float32"]
    names = {n: {s.name.rpartition(" ")[0] for s in of if s.n == n and "cont" not in s.name}
             for n in (1, 8)}  # fmt: skip
    assert names[1] == names[8]
    assert len(names[1]) == len(traced("conv2d.yaml"))


def test_gradients_have_neither_bias_nor_activation() -> None:
    for shape in load("conv2d_input_grad") + load("conv2d_weight_grad"):
        assert isinstance(shape, ConvolutionShape)
        assert (shape.bias, shape.activation) == (False, None)


def test_nets_of_a_layer_are_all_that_call_it() -> None:
    (shape,) = load("conv2d", case="1x1 96-24 56x56 n1")
    assert shape.nets == ("mobilenet_v2", "efficientnet_b0")


def test_shapes_too_slow_for_a_cpu_are_run_on_a_gpu_only() -> None:
    name = "4096x4096x4096"
    assert [shape.name for shape in load("int8_gemm", device="cuda", case=name)] == [name]
    with pytest.raises(ShapesError, match="is not run on cpu"):
        load("int8_gemm", case=name)


def test_minutes_long_calls_are_raced_against_torchvision_only() -> None:
    slow = load("nms", case="100000 [udm]*", device="cuda")
    assert [shape.peers for shape in slow] == [("torchvision",)] * 3
    assert not any(shape.peers for shape in load("nms", quick=True))


def test_case_selects_by_pattern() -> None:
    found = [shape.name for shape in load("conv2d", case="7x7 3-64*")]
    assert found == [
        "7x7 3-64 224x224 s2 relu n1",
        "7x7 3-64 224x224 s2 relu n8",
        "7x7 3-64 224x224 s2 relu n1 contiguous",
        "7x7 3-64 224x224 s2 relu n1 bfloat16",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"op": "conv3d"}, "op 'conv3d'; known: conv2d, "),
        ({"device": "tpu"}, "device must be one of cpu, cuda; got 'tpu'"),
        ({"case": "1000 uniforn"}, "no shape matches '1000 uniforn'; near: '1000 uniform'"),
        ({"case": "30000 uniform", "quick": True}, "is not in the quick subset"),
    ],
)
def test_what_is_asked_for_and_not_there_is_named(arguments: Any, message: str) -> None:
    with pytest.raises(ShapesError, match=message):
        load(**arguments)


def test_a_list_stands_for_one_shape_each_and_one_number_for_a_pair() -> None:
    line = "{n: [1, 2], c: 4, h: 8, w: 6, o: 4, kernel: 3, padding: [1, 0], groups: [1, 2, 4]}"
    found = parse(f"shapes:\n - {line}", "conv2d.yaml")
    assert [shape.name for shape in found] == [
        f"{layer} n{n}" for n in (1, 2)
        for layer in ("3x3 4-4 8x6 p1x0", "3x3 4-4 8x6 p1x0 g2", "dw3x3 4 8x6 p1x0")
    ]  # fmt: skip
    assert isinstance(found[0], ConvolutionShape)
    assert (found[0].kernel, found[0].padding, found[0].output_size) == ((3, 3), (1, 0), (8, 4))


def test_layers_that_a_call_makes_equal_are_one() -> None:
    text = """
calls: [{op: int8_gemm, m: 1, fused: false}]
traced:
  - {n: 2, k: 3, fused: true, nets: {one: 1}}
  - {n: 2, k: 3, nets: {other: 5}}
"""
    expected = Int8GemmShape(name="1x2x3", m=1, n=2, k=3, nets=("one", "other"))
    assert parse(text, "int8_gemm.yaml") == [expected]


GEMM = "{m: 1, n: 2, k: 3}"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("int8_gemm.yaml", "shapes: [{m: 1, n: 2, kk: 3}]", "shapes, entry 1 .*unknown field kk; "),
        ("int8_gemm.yaml", f"shapes: [{GEMM}, {{m: 1}}]", "entry 2 .*missing field n, k"),
        ("int8_gemm.yaml", f"shapes: [{GEMM}, {GEMM}]", "entry 2 .*already has .* '1x2x3'"),
        ("int8_gemm.yaml", "shapes: [{m: 1.5, n: 2, k: 3}]", "m must be int, got 1.5"),
        ("int8_gemm.yaml", "shapes: [{m: true, n: 2, k: 3}]", "m must be int, got True"),
        ("int8_gemm.yaml", "shapes: [7]", "entry 1 7: expected a mapping"),
        ("int8_gemm.yaml", "shapes: 7", "int8_gemm.yaml: shapes must be a list"),
        ("int8_gemm.yaml", "layers: []", "unknown key layers; known: quick, calls, shapes, traced"),
        ("int8_gemm.yaml", "[1, 2", "int8_gemm.yaml is no YAML"),
        ("int8_gemm.yaml", "shapes: [{op: gemm}]", "op must be one of int8_gemm; got 'gemm'"),
        ("int8_gemm.yaml", "quick: {int8_gemm: [1x1]}", "quick, int8_gemm: no shape is called"),
        (
            "int8_gemm.yaml",
            f"shapes: [{GEMM}]\nquick: {{int8_gemm: [1x2x4]}}",
            "no shape is called '1x2x4'; near: '1x2x3'",
        ),
        (
            "int8_gemm.yaml",
            "calls: [{m: 1, nets: [lenet]}]\ntraced: [{n: 1, k: 1, nets: {vgg16: 1}}]",
            "calls, entry 1 .*no traced layer is of lenet; known: vgg16",
        ),
        ("int8_gemm.yaml", "traced: [{n: 1, k: 1}]", "traced, entry 1 .*nets must name"),
        (
            "int8_gemm.yaml",
            "shapes: [{m: 1, n: 2, k: 3, devices: [tpu]}]",
            "devices must be one of cpu, cuda; got 'tpu'",
        ),
        (
            "nms.yaml",
            "shapes: [{boxes: 5, arrangement: sparse}]",
            "arrangement must be one of uniform, .*; got 'sparse'",
        ),
        (
            "conv2d.yaml",
            "shapes: [{n: 1, c: 1, h: 1, w: 1, o: 1, kernel: 1, activation: gelu}]",
            "activation must be one of None, relu, .*; got 'gelu'",
        ),
        (
            "conv2d.yaml",
            "shapes: [{n: 1, c: 1, h: 1, w: 1, o: 1, kernel: [1, 1, 1]}]",
            r"kernel must be one number or 2, got \[1, 1, 1\]",
        ),
        (
            "roi_align.yaml",
            "shapes: [{n: 1, c: 1, h: 9, w: 9, boxes: 1, output_size: 7, spatial_scale: 0.5}]",
            "missing field name",
        ),
    ],
)
def test_a_bad_line_is_refused_with_file_entry_and_field(
    file: str, text: str, message: str
) -> None:
    with pytest.raises(ShapesError, match=message):
        parse(text, file)


def test_every_file_of_the_folder_is_read() -> None:
    assert {path.name for path in generate_shapes.FOLDER.glob("*")} == set(shapes.FILES)
