"""Networks on INT8: peers that quantise rightly, are at their best, and are told apart if wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from cvperf.bench.contender import Contender, Unsupported
from cvperf.bench.peers import ours, select
from cvperf.bench.peers.fastest import fastest
from cvperf.bench.problems.model_int8 import CALIBRATION, ModelInt8, ModelInt8Shape
from cvperf.benchmarks.suites import SUITES


class Block(nn.Module):
    """Enough of a network: convolutions of a kind each, a sum, pooling, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 16, 1)
        )
        self.classes = nn.Linear(16, 50)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        return self.classes((x + self.branch(x)).mean((2, 3)))


@pytest.fixture
def problem() -> ModelInt8:
    return ModelInt8Shape(name="net", model="net", batch=2, side=24, build=Block).problem()


def _check(contender: Contender, problem: ModelInt8) -> None:
    expected = problem.reference()
    error = problem.error(expected, contender.once())
    assert error <= problem.tolerance
    assert error > 1e-9, "a float network would be exact"


def test_ours_is_right_and_on_integers(problem: ModelInt8) -> None:
    pytest.importorskip("torchao")
    _check(ours.model_int8(problem), problem)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_peer_is_right_and_on_integers(name: str, problem: ModelInt8) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip(name)
    (peer,) = select([name], "cpu")
    contender = peer.contender(problem)
    _check(contender, problem)
    assert "before the clock" in contender.note


def test_openvino_by_nncf_is_right_and_on_integers(problem: ModelInt8) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from cvperf.bench.peers import openvino

    compiled = openvino._compiled(openvino._by_nncf(problem))
    _check(openvino._contender(compiled, list(problem.inputs)), problem)


def test_openvino_without_a_quantiser_says_what_to_install(
    problem: ModelInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvperf.bench.peers import openvino

    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="pip install nncf, or onnxruntime and onnx"):
        openvino.model_int8(problem)


def test_the_quantised_file_has_uint8_activations_and_a_scale_a_filter(problem: ModelInt8) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from cvperf.bench.peers import quantised_onnx

    graph = onnx.load_from_string(quantised_onnx.network(problem).data).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    quantise = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert quantise
    assert {constants[node.input[2]].dtype.name for node in quantise} == {"uint8"}
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "Conv":
            weight = made[node.input[1]]
            assert constants[weight.input[0]].dtype.name == "int8"
            assert constants[weight.input[1]].size == len(constants[weight.input[0]])


def test_images_to_calibrate_by_are_others_of_the_same_size(problem: ModelInt8) -> None:
    (image,) = problem.inputs
    assert len(problem.calibration) == CALIBRATION
    assert {each.shape for each in problem.calibration} == {image.shape}
    assert not any(torch.equal(each, image) for each in problem.calibration)
    assert image.dtype == torch.float32


def test_the_error_is_the_cosines_distance_from_one(problem: ModelInt8) -> None:
    expected = torch.tensor([[3.0, 4.0]]).double()
    assert problem.error(expected, torch.tensor([[6.0, 8.0]])) == pytest.approx(0, abs=1e-12)
    assert problem.error(expected, torch.tensor([[4.0, -3.0]])) == pytest.approx(1)
    assert problem.error(expected, torch.tensor([[torch.nan, 4.0]])) == math.inf
    assert problem.error(expected, torch.tensor([3.0, 4.0])) == math.inf
    rubbish = torch.randn_like(problem.reference())
    assert problem.error(problem.reference(), rubbish) > problem.tolerance


class Slow:
    def __init__(self, turns: int, answer: Any) -> None:
        self.turns, self.answer = turns, answer

    def __call__(self) -> Any:
        for _ in range(self.turns):
            torch.ones(100, 100) @ torch.ones(100, 100)
        return self.answer


def test_a_librarys_best_way_is_the_fastest_that_is_right(problem: ModelInt8) -> None:
    right = problem.reference()
    slow, fast = Contender(Slow(200, right)), Contender(Slow(1, right))
    wrong = Contender(Slow(0, -right))
    assert fastest([slow, fast, wrong], problem) is fast
    assert fastest([wrong, slow], problem) is slow
    assert fastest([wrong], problem) is wrong
    worse = Contender(Slow(0, torch.full_like(right, torch.nan)))
    assert fastest([worse, wrong], problem) is wrong, "its error is then said"


def test_the_suite_has_integers_on_a_cpu_only() -> None:
    kinds = {
        device: {type(shape) for shape in SUITES["models"](False, device)}
        for device in ("cpu", "cuda")
    }
    assert ModelInt8Shape in kinds["cpu"]
    assert ModelInt8Shape not in kinds["cuda"]
