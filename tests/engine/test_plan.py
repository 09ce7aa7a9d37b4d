"""Plans give what the model gives, whatever its layout and whoever runs beside them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvperf import engine
from cvperf.engine.steps import NativeStep, TorchStep


def planned(model: nn.Module, *inputs: Tensor) -> engine.Plan:
    captured = engine.capture(model.eval(), inputs, {})
    engine.fuse(captured.graph)
    return engine.plan(captured.graph, engine.Weights(), inputs)


@torch.no_grad()
def check(model: nn.Module, *inputs: Tensor) -> engine.Plan:
    """The plan, its answers checked against the model's, twice."""
    plan = planned(model, *inputs)
    expected = model(*inputs)
    expected = expected if isinstance(expected, (tuple, list)) else [expected]
    for _ in range(2):
        for answer, each in zip(plan.run(inputs), expected, strict=True):
            torch.testing.assert_close(answer, each, atol=1e-5, rtol=1e-4)
    return plan


class Views(nn.Module):
    """What only looks at a tensor otherwise costs no step; what needs an order gets it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8 * 5 * 6, 7)

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x[:, :, 1:, ::2])
        first, second = y.chunk(2, 1)
        rows = y.flatten(2).transpose(1, 2)
        return self.head(y.flatten(1)), rows, first + second, y.permute(0, 2, 3, 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_views(layout: torch.memory_format) -> None:
    check(Views(), torch.rand(3, 8, 6, 12).to(memory_format=layout))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.SiLU(), nn.Conv2d(8, 4, 1)).to(dtype)
    plan = planned(model, image := torch.rand(2, 3, 20, 20, dtype=dtype))
    with torch.no_grad():
        expected = model.double()(image.double())
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(plan.run([image])[0].double(), expected, atol=tolerance, rtol=0)


class Gaps(nn.Module):
    """Fixed tensors that have gaps in memory, or repeat themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gaps", torch.rand(2, 5, 14)[..., ::2])
        self.register_buffer("wide", torch.rand(2, 5, 1).expand(2, 5, 7))

    def forward(self, x: Tensor) -> Any:
        return x * self.gaps, x + self.wide, torch.cumsum(self.gaps, 1) + x


def test_fixed_tensors_with_gaps() -> None:
    check(Gaps(), torch.rand(2, 5, 7))


class Answers(nn.Module):
    """An input, a weight, a view of another answer, a number, nothing, and one tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x)
        return x, self.layer.bias, y, y[:, 1:], y.flatten(2), y, x.shape[0], None


def test_answers_of_all_kinds() -> None:
    model, image = Answers().eval(), torch.rand(2, 3, 5, 4)
    plan = planned(model, image)
    with torch.no_grad():
        expected = model(image)
    found = plan.run([image])
    assert found[0] is image
    assert found[6:] == [2, None]
    for answer, each in zip(found[:6], expected[:6], strict=True):
        torch.testing.assert_close(answer, each)


def test_an_answer_belongs_to_the_caller() -> None:
    plan = planned(nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8))
    one = plan.run([torch.rand(2, 3, 8, 8)])[0]
    kept = one.clone()
    plan.run([torch.rand(2, 3, 8, 8)])
    assert torch.equal(one, kept)


class Mixed(nn.Module):
    """Operators of torch between ours, which read the arena and whose answers ours read."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.one(x)
        y = torch.cumsum(y, 1)
        least, places = y.min(1)
        y = self.two(y) + torch.arange(6.0).view(1, 6, 1, 1)
        return torch.erf(y), least, places, y.clone()


def test_torch_runs_what_is_not_ours() -> None:
    plan = check(Mixed(), torch.rand(2, 3, 10, 10))
    kinds = {type(step) for step in plan.program.steps}
    assert kinds == {NativeStep, TorchStep}


def test_the_first_input_of_a_program_without_steps() -> None:
    check(nn.Identity(), torch.rand(2, 3))


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5))
    check(model, torch.rand(batch, 3, 6, 6))


def test_threads_run_one_plan_at_the_same_time() -> None:
    model = nn.Sequential(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(6)]).eval()
    images = [torch.rand(1, 4, 24, 24) for _ in range(40)]
    plan = planned(model, images[0])
    alone = [plan.run([image])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: plan.run([image])[0], images))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_arena_holds_what_lives_at_once() -> None:
    model = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(10)])
    plan = planned(model, torch.rand(1, 8, 32, 32))
    image = 8 * 32 * 32 * 4
    assert plan.arena_bytes == 2 * image
