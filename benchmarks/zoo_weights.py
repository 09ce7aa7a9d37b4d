"""Random weights that make a model's answer depend on its image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvperf.bench.problems.model import settle_batch_norm

_NEGLIGIBLE = 1e-3


@torch.no_grad()
def enliven(model: nn.Module, images: Tensor, seed: int = 0) -> None:
    """Draw the parameters that a library leaves constant, and settle batch norms on ``images``.

    Weights of zero (a classifier's, the last norm of a residual branch, a layer scale of 1e-6) cut
    layers off from the answer, and biases of zero or scales of one hide what is done with them.
    """
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.numel() < 2 or float(parameter.max()) != float(parameter.min()):
            continue
        noise = torch.randn(parameter.shape, generator=random)
        if max(parameter.shape) != parameter.numel():  # a matrix or filters
            parameter.copy_(noise * (parameter.numel() / parameter.shape[0]) ** -0.5)
            continue
        value = float(parameter.flatten()[0])
        if "bias" not in name and abs(value) < _NEGLIGIBLE:
            value = 0.5
        parameter.copy_(value + 0.1 * noise)
    settle_batch_norm(model, images)
