"""An optimised model is called as the model was, and says who runs it."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.dropin import optimize as module


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
        )
        self.head = nn.Linear(4, 5)
        self.names = ["a", "b"]

    def forward(self, image: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        features = self.features(image) * scale
        return {"features": features, "logits": self.head(features.mean((2, 3)))}


class Decides(nn.Module):
    """Control flow that depends on values, between layers that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)])

    def forward(self, image: Tensor) -> Tensor:
        x: Tensor = self.net(image)["features"]
        return self.layers[int(x.mean() > 0)](x).relu()


@torch.no_grad()
def check(fast: nn.Module, model: nn.Module, *args: Any, **kwargs: Any) -> None:
    expected, found = model(*args, **kwargs), fast(*args, **kwargs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def image(*shape: int) -> Tensor:
    return torch.rand(shape) - 0.3


def test_the_second_graph_serves_many_sizes() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model, example_inputs=image(2, 3, 16, 16))
    for shape in ((2, 3, 16, 16), (3, 3, 20, 9), (5, 3, 16, 16), (2, 3, 7, 30)):
        check(fast, model, image(*shape))
    assert len(fast._captured) == 2
    check(fast, model, image(1, 3, 16, 16))  # 1 has a meaning of its own
    assert len(fast._captured) == 3


def test_arguments_by_name_and_constants() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model)
    check(fast, model, image(2, 3, 16, 16), scale=2.0)
    check(fast, model, image(2, 3, 16, 16), 3.0)
    check(fast, model, scale=2.0, image=image(2, 3, 16, 16))


def test_layouts_and_threads() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model)
    batch = image(2, 3, 16, 16)
    check(fast, model, batch)
    check(fast, model, batch.to(memory_format=torch.channels_last))
    check(fast, model, image(2, 16, 16, 3).permute(0, 3, 1, 2))
    expected = fast(batch)["logits"]
    answers: list[Tensor] = []
    workers = [
        threading.Thread(target=lambda: answers.append(fast(batch)["logits"])) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(answers) == 4
    assert all(torch.equal(answer, expected) for answer in answers)


def test_surroundings_do_not_matter() -> None:
    model = Net().eval()
    batch = image(2, 3, 16, 16)
    expected = model(batch)["logits"].detach()
    for surroundings in (torch.inference_mode(), torch.autocast("cpu"), torch.enable_grad()):
        fast = cvperf.optimize(model)
        with surroundings:
            found = [fast(batch)["logits"] for _ in range(2)]
        for answer in found:
            torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4)
            assert not answer.requires_grad


def test_bfloat16_inside_float32_outside() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model, cvperf.Bf16Config())
    for shape in ((2, 3, 16, 16), (1, 3, 24, 20)):
        batch = image(*shape)
        with torch.no_grad():
            expected, found = model(batch), fast(batch)
        for name, answer in found.items():
            assert answer.dtype == torch.float32
            torch.testing.assert_close(answer, expected[name], atol=2e-2, rtol=2e-2)
            assert not torch.equal(answer, expected[name])
    assert set(fast.explain().plans[0].torch) == set()


def test_an_input_that_is_an_answer_is_not_rounded() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x * 2

    x = torch.rand(2, 3)
    same, twice = cvperf.optimize(Both().eval(), cvperf.Bf16Config())(x)
    assert same is x
    assert torch.equal(twice, (x.bfloat16() * 2).float())


def test_the_longest_unused_plan_goes_first() -> None:
    fast = cvperf.optimize(Net().eval(), cvperf.FusionConfig(plans=2))
    for height in (8, 9, 10, 9, 11):
        fast(image(2, 3, height, 8))
    heights = [plan.inputs[0] for plan in fast.explain().plans]
    assert heights == ["float32[2, 3, 9, 8]", "float32[2, 3, 11, 8]"]


def test_a_model_that_decides_is_split() -> None:
    model = Decides().eval()
    fast = cvperf.optimize(model)
    for shape in ((2, 3, 16, 16), (3, 3, 12, 12)):
        for sign in (1, -1):
            check(fast, model, image(*shape) * sign)
    explained = fast.explain()
    assert "torch.export" in explained.why
    served = {part.name for part in explained.parts if part.plans}
    assert "net" in served
    assert served & {"layers.0", "layers.1"}
    assert "net (Net)" in str(explained)


def test_what_needs_a_graph_a_call_runs_as_it_is() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor, scale: float) -> Tensor:
            return self.layer(x) * scale

    model = Scaled().eval()
    fast = cvperf.optimize(model)
    for step in range(module.MOST_CAPTURES + 2):
        check(fast, model, image(2, 3, 4, 4), float(step))
    assert "graph of their own" in fast.explain().why
    assert fast.explain().parts[0].plans


def test_attributes_are_the_models() -> None:
    model = Net().eval()
    fast = cvperf.optimize(model)
    assert fast.names == ["a", "b"]
    assert fast.original is model
    with pytest.raises(AttributeError, match="nothing"):
        fast.nothing  # noqa: B018


def test_the_model_is_left_as_it_was() -> None:
    model = Net().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cvperf.optimize(model, example_inputs=image(2, 3, 8, 8))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_explain_counts_the_work() -> None:
    fast = cvperf.optimize(Net().eval(), example_inputs=image(2, 3, 16, 16))
    (plan,) = fast.explain().plans
    assert plan.work == 2 * 2 * (8 * 3 * 9 * 256 + 4 * 8 * 9 * 196 + 5 * 4)
    assert plan.covered == 1.0
    assert "GFLOP on our kernels" in str(fast.explain())


def test_explain_counts_what_torch_runs() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2)

    fast = cvperf.optimize(Product().eval(), example_inputs=torch.rand(2, 3, 5))
    (plan,) = fast.explain().plans
    assert (plan.work, plan.torch_work, plan.covered) == (0, 2 * 2 * 3 * 3 * 5, 0.0)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got 'model'"):
        cvperf.optimize("model")
    with pytest.raises(TypeError, match="config must be a FusionConfig"):
        cvperf.optimize(Net().eval(), config=5)
    with pytest.raises(cvperf.ArgumentError, match=r"model\.eval\(\)"):
        cvperf.optimize(Net())
    with pytest.raises(cvperf.ArgumentError, match="plans must be at least 1"):
        cvperf.FusionConfig(plans=0)
    fast = cvperf.optimize(Net().eval())
    with pytest.raises(cvperf.ArgumentError, match="requires one"):
        fast(image(2, 3, 8, 8).requires_grad_())
    with pytest.raises(cvperf.ArgumentError, match="inference"):
        fast.train()
    assert fast.eval() is fast


def test_it_stays_where_it_was_made() -> None:
    fast = cvperf.optimize(Net().eval())
    for move in (lambda: fast.to("meta"), fast.double, fast.half):
        with pytest.raises(cvperf.ArgumentError, match="optimise that again"):
            move()


def test_a_copy_gives_the_same() -> None:
    fast = cvperf.optimize(Net().eval(), cvperf.FusionConfig(plans=3))
    batch = image(2, 3, 8, 8)
    expected = fast(batch)["logits"]
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert twin.original is not fast.original
        assert torch.equal(twin(batch)["logits"], expected)


def test_an_error_of_the_model_is_its_own() -> None:
    fast = cvperf.optimize(Net().eval())
    with pytest.raises(RuntimeError, match="channels"):
        fast(image(2, 4, 8, 8))


def test_a_detector_finds_what_it_found() -> None:
    detection = pytest.importorskip("torchvision.models.detection")
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
    backbone.out_channels = 16  # type: ignore[assignment]
    model = detection.FasterRCNN(
        backbone,
        num_classes=3,
        min_size=64,
        max_size=96,
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(((16, 32),), ((1.0,),)),
        box_score_thresh=0.0,
        box_detections_per_img=20,
    ).eval()
    model.double()  # random weights give scores that differ little: rounding would change the order
    fast = cvperf.optimize(model)
    photos = [torch.rand(3, 60, 80, dtype=torch.float64)]
    with torch.no_grad():
        expected, found = model(photos)[0], fast(photos)[0]
    assert len(expected["boxes"])
    torch.testing.assert_close(found, expected)
    served = {part.name for part in fast.explain().parts if part.plans}
    assert "backbone" in served
