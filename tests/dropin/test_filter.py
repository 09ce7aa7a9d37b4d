"""``filter_fn`` says which modules a configuration is meant for."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.dropin.optimize import OptimizedModel
from cvperf.engine.steps import NativeStep


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.body(x)).mean((2, 3)))


class Decides(nn.Module):
    """Runs Python between its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.sum() > -1e9 else x


def image() -> Tensor:
    return torch.rand(2, 3, 16, 16)


def not_the_head(module: nn.Module, name: str) -> bool:
    return "head" not in name.split(".")


def convolutions(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Conv2d)


def steps(fast: OptimizedModel) -> tuple[Counter[str], Counter[str]]:
    """Ours and torch's, convolutions by one name whatever their algorithm."""
    explained = fast.explain()
    (plan,) = (explained if explained.plans else explained.parts[0]).plans
    ours: Counter[str] = Counter()
    for name, count in plan.ours.items():
        ours[name.partition(",")[0]] += count
    return ours, Counter(plan.torch)


@torch.no_grad()
def check(fast: nn.Module, model: nn.Module, tolerance: float = 1e-5) -> None:
    x = image()
    torch.testing.assert_close(fast(x), model(x), atol=tolerance, rtol=0)


def test_every_module_is_asked_once_by_its_name() -> None:
    asked: list[tuple[str, nn.Module]] = []

    def note(module: nn.Module, name: str) -> bool:
        asked.append((name, module))
        return True

    model = Net().eval()
    fast = cvperf.optimize(model, filter_fn=note)
    fast(image())
    assert asked == list(model.named_modules())


def test_layers_left_out_are_torchs() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model, example_inputs=image(), filter_fn=not_the_head)
    check(fast, model)
    ours, torchs = steps(fast)
    assert (ours["conv2d"], ours["linear"]) == (3, 0)
    assert torchs == {"aten::linear": 1}


def test_convolutions_left_out_are_torchs() -> None:
    model = Net().eval()
    fast = cvperf.optimize(
        model, example_inputs=image(), filter_fn=lambda module, name: name != "body.2"
    )
    check(fast, model)
    ours, torchs = steps(fast)
    assert (ours["conv2d"], ours["linear"], ours["add"]) == (2, 1, 1), "it takes in no sum"
    assert torchs == {"aten::conv2d": 1}


def test_the_others_stay_float32_in_a_bfloat16_model() -> None:
    model = Net().eval()
    fast = cvperf.optimize(
        model, cvperf.Bf16Config(), image(), filter_fn=lambda module, name: name != "head"
    )
    check(fast, model, 2e-2)
    program = next(iter(fast._plans.values()))[1].program
    dtypes = {
        step.name.partition(",")[0]: step.read[0].dtype
        for step in program.steps
        if isinstance(step, NativeStep) and step.read[0] is not None
    }
    assert dtypes["linear"] == torch.float32
    assert dtypes["conv2d"] == torch.bfloat16
    assert steps(fast)[0]["copy"] == 2, "the image, and the rows before the head"


def test_nothing_in_bfloat16_is_the_float32_model() -> None:
    model, x = Net().eval(), image()
    narrow = cvperf.optimize(model, cvperf.Bf16Config(), filter_fn=lambda module, name: False)
    assert torch.equal(narrow(x), cvperf.optimize(model)(x))
    assert narrow.explain().plans == cvperf.optimize(model, None, x).explain().plans


def test_layers_left_out_stay_float32_in_an_int8_model() -> None:
    pytest.importorskip("torchao")
    model = Net().eval()
    config = cvperf.Int8Config(calibration=[image()], skip=("stem.0",))
    fast = cvperf.optimize(model, config, image(), filter_fn=lambda module, name: name != "body.0")
    ours, _ = steps(fast)
    assert (ours["conv2d_int8"], ours["conv2d"]) == (1, 2)


def test_by_type() -> None:
    pytest.importorskip("torchao")
    config = cvperf.Int8Config(calibration=[image()])
    fast = cvperf.optimize(Net().eval(), config, image(), filter_fn=convolutions)
    assert steps(fast)[0]["conv2d_int8"] == 3


def test_names_are_of_the_whole_model_in_its_parts_too() -> None:
    pytest.importorskip("torchao")
    model = Decides().eval()
    fast = cvperf.optimize(
        model, example_inputs=image(), filter_fn=lambda module, name: name != "net.head"
    )
    check(fast, model)
    assert steps(fast)[1] == {"aten::linear": 1}
    config = cvperf.Int8Config(calibration=[image()], skip=("net.stem.*",))
    fast = cvperf.optimize(
        model, config, image(), filter_fn=lambda module, name: name != "net.body.0"
    )
    assert steps(fast)[0]["conv2d_int8"] == 1


def test_a_lambda_is_not_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    fast = cvperf.optimize(Net().eval(), filter_fn=lambda module, name: name != "head")
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    x = image()
    expected = fast(x)
    cvperf.save(fast, path)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), cvperf.load(path)):
        assert torch.equal(twin(x), expected)
        assert steps(twin)[1] == {"aten::linear": 1}


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="filter_fn must be a function"):
        cvperf.optimize(Net().eval(), filter_fn="head")  # type: ignore[arg-type]


def test_a_split_model_has_no_gradient_either() -> None:
    fast = cvperf.optimize(Decides().eval(), example_inputs=image())
    assert fast.explain().why
    with pytest.raises(cvperf.ArgumentError, match="requires one"):
        fast(image().requires_grad_())
    with torch.no_grad():
        fast(image().requires_grad_())
