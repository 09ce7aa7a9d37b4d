"""torch.compile with our backend: the same answers, by plans."""

from __future__ import annotations

from importlib.metadata import entry_points
from unittest.mock import patch

import torch
from torch import Tensor, nn

from cvperf.dropin import compile_backend as module
from cvperf.dropin.compile_backend import compile_backend
from cvperf.dropin.optimize import OptimizedModel


class Breaks(nn.Module):
    """Two graphs, with a decision on values between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if x.mean() > 1e9:
            x = x / 2
        return self.two(x)


def compiled(model: nn.Module) -> tuple[nn.Module, list[OptimizedModel]]:
    """The compiled model, and what the backend makes for it while it runs."""
    made: list[OptimizedModel] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        def keep(*args: object) -> OptimizedModel:
            made.append(OptimizedModel(*args))  # type: ignore[arg-type]
            return made[-1]

        with patch.object(module, "OptimizedModel", keep):
            return compile_backend(graph, inputs)

    torch._dynamo.reset()
    return torch.compile(model, backend=backend), made  # type: ignore[return-value]


def test_graphs_become_plans_with_their_weights_inside() -> None:
    model = Breaks().eval()
    fast, made = compiled(model)
    with torch.no_grad():
        for shape in ((2, 3, 9, 9), (3, 3, 12, 9), (4, 3, 12, 9)):
            x = torch.rand(shape)
            torch.testing.assert_close(fast(x), model(x), atol=1e-5, rtol=1e-4)
    steps = [step for each in made for plan in each.explain().plans for step in plan.ours]
    assert sum(step.startswith("conv2d") for step in steps) >= 2
    assert all(plan.covered == 1 for each in made for plan in each.explain().plans)


def test_gradients_flow() -> None:
    model = Breaks().eval()
    fast, made = compiled(model)
    x = torch.rand(2, 3, 9, 9)
    expected = torch.autograd.grad(model(x).sum(), model.two.weight)[0]
    found = torch.autograd.grad(fast(x).sum(), model.two.weight)[0]
    torch.testing.assert_close(found, expected)
    assert not made


def test_torch_finds_it_by_name() -> None:
    (entry,) = entry_points(group="torch_dynamo_backends", name="cvperf")
    assert entry.load() is compile_backend
