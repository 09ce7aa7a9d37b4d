"""A whole network, forward: every peer gets the same module and the same input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from cvperf.bench.accuracy import largest_error
from cvperf.bench.contender import Contender
from cvperf.bench.problems.base import Problem, Shape, generator
from cvperf.bench.results import Measurement
from cvperf.bench.shares import shares


@dataclass(frozen=True, kw_only=True)
class ModelShape(Shape):
    """``module(image[batch, channels, side, side])`` in inference mode, weights random."""

    op: ClassVar[str] = "model"

    model: str
    batch: int
    channels: int = 3
    side: int
    build: Callable[[], nn.Module]
    layout: str = "contiguous"

    @property
    def subject(self) -> str:
        return self.model

    @property
    def weights_dtype(self) -> torch.dtype:
        """Of the module that every peer is given."""
        return self.torch_dtype

    @cached_property
    def flop(self) -> int:
        """Of the convolutions and matrix products, as torch counts them."""
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            self.build().eval()(torch.empty(self._input_size))
        total: int = counter.get_total_flops()
        return total

    @property
    def bytes(self) -> int:
        """Weights and input once: activations between layers can stay in a cache."""
        with torch.device("meta"):
            weights = sum(weight.numel() for weight in self.build().parameters())
        return (weights + self.batch * self.channels * self.side**2) * self.torch_dtype.itemsize

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"input": self._input_size, "weights": "random"}

    @property
    def _input_size(self) -> tuple[int, int, int, int]:
        return self.batch, self.channels, self.side, self.side

    def problem(self, seed: int = 0, device: str = "cpu") -> Model:
        return Model(self, seed, device)


class Model(Problem):
    """``module`` in evaluation mode, and ``inputs``: one image batch in 0..1."""

    shape: ModelShape

    def __init__(self, shape: ModelShape, seed: int, device: str) -> None:
        self.shape = shape
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = shape.build()
        size = shape._input_size
        image = torch.rand(size, generator=generator(seed, device), device=device)
        settle_batch_norm(module, image.cpu())
        self.module = module.to(device, shape.weights_dtype)
        self.inputs = (image.to(shape.weights_dtype, memory_format=shape.memory_format),)

    @property
    def tolerance(self) -> float:
        # Every layer rounds, and the next ones carry it on: 1e-4 over some fifty layers is what
        # float32 gives (docs/benchmarking.md).
        return 1e-3 if self.shape.dtype == "float32" else 5e-2

    def reference(self) -> Tensor:
        module = copy.deepcopy(self.module).cpu().double()
        with torch.inference_mode():
            return first_tensor(module(*(tensor.cpu().double() for tensor in self.inputs)))

    def error(self, expected: Tensor, answer: Tensor) -> float:
        return largest_error(expected, first_tensor(answer))

    def detail(self, row: Measurement, contender: Contender | None) -> dict[str, Any]:
        if row.median_ms is None or contender is None:
            return {"weights": "random"}
        per_second = self.shape.batch / row.median_ms * 1e3
        detail = {"weights": "random", "batch": self.shape.batch, "throughput": per_second}
        return {**detail, **shares(row, contender)}


def first_tensor(answer: Any) -> Tensor:
    """A network's answer, or the first of its answers."""
    if isinstance(answer, Mapping):
        answer = next(iter(answer.values()))
    return answer if isinstance(answer, Tensor) else first_tensor(answer[0])


@torch.no_grad()
def settle_batch_norm(module: nn.Module, batch: Tensor) -> None:
    """Give batch norms the statistics of this batch, and leave the module in evaluation mode.

    With random weights and the statistics of initialisation, activations grow or fade from layer
    to layer until nothing that is compared means anything. All else is as in evaluation: layers
    that drop at random would give each process statistics, and so answers, of its own.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    module.eval()
    for norm in norms:
        norm.momentum = 1.0  # this one batch replaces the initial statistics
        norm.train()
    if norms:
        module(batch)
    module.eval()
