"""The exponential moving average of a model's weights, which is steadier than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class Average:
    """``average = decay * average + (1 - decay) * weights`` after each step.

    While few steps are done the decay is smaller, ``(1 + n) / (10 + n)`` at most, so that the
    random start is forgotten. Buffers (batch norm's statistics) are taken as they are.

    Args:
        model: whose weights; it is copied.
        decay: such as 0.999.

    Source: Polyak and Juditsky, 1992; the warm-up is TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the weights of a step. The model has the same parameters as the one copied."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        torch._foreach_lerp_(
            list(self.module.parameters()), list(model.parameters()), weight=1 - decay
        )
        for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"module": self.module.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.module.load_state_dict(state["module"])
        self._steps = state["steps"]
