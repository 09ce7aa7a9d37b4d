"""A raced network is the same in every process."""

from __future__ import annotations

import torch
from torch import nn

from cvperf.bench.problems.model import settle_batch_norm


def test_statistics_do_not_depend_on_what_is_dropped_at_random() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))
    batch = torch.rand(2, 3, 8, 8)
    settle_batch_norm(module, batch)
    state = {name: each.clone() for name, each in module.state_dict().items()}
    settle_batch_norm(module, batch)
    assert float(state["2.running_mean"].abs().max()) > 1e-3, "the batch's, not those of the start"
    for name in ("2.running_mean", "2.running_var"):
        assert torch.equal(state[name], module.state_dict()[name])
    assert not any(layer.training for layer in module.modules())
