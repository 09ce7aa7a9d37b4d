"""One step of training: forward, loss, gradients, update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cvperf.bench.contender import Contender
from cvperf.bench.problems.base import Problem, Shape
from cvperf.bench.results import Measurement
from cvperf.bench.shares import shares

Batch = tuple[Any, ...]


@dataclass(frozen=True)
class Recipe:
    """What is trained: a module whose call on a batch gives the loss."""

    module: nn.Module
    batch: Batch


@dataclass(frozen=True, kw_only=True)
class TrainingShape(Shape):
    """One SGD step of a recipe, weights random."""

    op: ClassVar[str] = "training"

    recipe: str
    images: int
    build: Callable[[], Recipe]
    """Called with torch's random numbers seeded."""
    layout: str = "contiguous"

    @property
    def subject(self) -> str:
        return self.recipe

    @property
    def flop(self) -> int:
        return 0  # not counted: no peer's step is limited by arithmetic alone

    @property
    def bytes(self) -> int:
        return 0

    @property
    def size(self) -> float:
        return float(self.images)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"images": self.images, "optimizer": "SGD, momentum 0.9, fused", "weights": "random"}

    def problem(self, seed: int = 0, device: str = "cpu") -> Training:
        return Training(self, seed, device)


class Training(Problem):
    """A module and a batch; the answer is the gradients of the first step, end to end."""

    shape: TrainingShape

    def __init__(self, shape: TrainingShape, seed: int, device: str) -> None:
        self.shape = shape
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            recipe = shape.build()
        self.module = _laid_out(recipe.module.train().to(device), shape.layout)
        self.batch = tuple(_laid_out(_moved(part, device), shape.layout) for part in recipe.batch)

    def trainee(
        self, prepare: Callable[[nn.Module], Callable[..., Tensor]] = lambda module: module
    ) -> tuple[nn.Module, Callable[[], Tensor]]:
        """A copy of the module, so that contenders do not train each other's, and its step.

        Args:
            prepare: makes of the copy what is called for the loss.
        """
        module = copy.deepcopy(self.module)
        loss_of = prepare(module)
        # Fused for everyone: torch's default is a loop over the parameters.
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, fused=True)

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(*self.batch)
            loss.backward()
            optimizer.step()
            return loss

        return module, step

    @property
    def tolerance(self) -> float:
        # An activation within rounding of zero lands on either side of ReLU, and batch norm over a
        # small batch spreads it: with AVX-512, torch's own gradients of MobileNetV2 are off by
        # 0.7 % of the largest. A wrong kernel is off by tens of percent.
        return 2e-2

    def reference(self) -> Tensor:
        module = copy.deepcopy(self.module).cpu().double()
        module(*(_moved(part, "cpu", torch.float64) for part in self.batch)).backward()
        return gradients(module)

    def detail(self, row: Measurement, contender: Contender | None) -> dict[str, Any]:
        if row.median_ms is None or contender is None:
            return {"weights": "random"}
        per_second = self.shape.images / row.median_ms * 1e3
        detail = {"weights": "random", "batch": self.shape.images, "throughput": per_second}
        return {**detail, **shares(row, contender)}


def gradients(module: nn.Module) -> Tensor:
    """Every gradient of the last step, end to end."""
    grads = (weight.grad for weight in module.parameters())
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


def _laid_out(part: Any, layout: str) -> Any:
    """A module or a tensor of images in the shape's memory format; anything else as it is."""
    images = isinstance(part, Tensor) and part.dim() == 4
    if layout != "channels_last" or not (images or isinstance(part, nn.Module)):
        return part
    return part.to(memory_format=torch.channels_last)


def _moved(part: Any, device: str, dtype: torch.dtype | None = None) -> Any:
    if isinstance(part, (list, tuple)):
        return type(part)(_moved(item, device, dtype) for item in part)
    if not isinstance(part, Tensor):
        return part
    return part.to(device, dtype if part.is_floating_point() else None)
