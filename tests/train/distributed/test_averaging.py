"""Fewer exchanges: parameters averaged now and then, and a parameter server."""

from __future__ import annotations

from math import inf

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cvperf.errors import ArgumentError
from cvperf.train.distributed import launch
from cvperf.train.distributed.averaging import Averaging, LocalSGD
from cvperf.train.distributed.parameter_server import ParameterServer

from distributed_toys import network, pictures  # isort: skip

PERIOD, WARMUP, STEPS, BATCH = 3, 2, 9, 16


def fit(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, after: object, steps: int
) -> list:
    """Train on this process's half of a batch; after each step, what ``after`` answers."""
    images, targets = (part.chunk(2)[dist.get_rank()] for part in pictures(BATCH))
    answers = []
    for _ in range(steps):
        model.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        if optimizer is not None:
            optimizer.step()
        answers.append(after())
    return answers


def everything(model: nn.Module) -> torch.Tensor:
    state = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return torch.cat([tensor.detach().flatten() for tensor in state])


def average_now_and_then() -> dict[str, object]:
    model = DistributedDataParallel(network(), broadcast_buffers=False)
    local = LocalSGD(model, Averaging(PERIOD, WARMUP))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def after() -> tuple[int, torch.Tensor]:
        local.after_step()
        return local.traffic.payload, everything(model)

    steps = fit(model, optimizer, after, STEPS)
    local.average()
    return {"steps": steps, "end": everything(model), "ratio": local.traffic.ratio}


def refuse_buffers_sent_at_each_step() -> str:
    with pytest.raises(ArgumentError, match="broadcast_buffers=False") as error:
        LocalSGD(DistributedDataParallel(network()), Averaging(PERIOD))
    return str(error.value)


def serve() -> dict[str, object]:
    model = network(norm=False)
    if dist.get_rank() == 1:
        nn.init.zeros_(model[-1].bias)  # the server's is what counts
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    server = ParameterServer(model, optimizer if dist.get_rank() == 0 else None)
    fit(model, None, server.step, STEPS)
    return {"end": everything(model), "traffic": server.traffic.by_collective}


def plain() -> torch.Tensor:
    model = DistributedDataParallel(network(norm=False))
    fit(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), lambda: None, STEPS)
    return everything(model)


def all_of_it() -> tuple[object, ...]:
    return average_now_and_then(), refuse_buffers_sent_at_each_step(), serve(), plain()


@pytest.fixture(scope="module")
def runs() -> list[tuple]:
    return launch.run(all_of_it, 2)


def test_processes_are_alike_after_each_average_and_differ_between(runs: list[tuple]) -> None:
    first, second = (run[0] for run in runs)
    same = [torch.equal(a[1], b[1]) for a, b in zip(first["steps"], second["steps"], strict=True)]
    # Torch averages after the first step of its own, then every PERIOD steps. In the warm-up only
    # the running statistics of batch norm differ.
    assert same == [(step >= WARMUP and (step - WARMUP) % PERIOD == 0) for step in range(STEPS)]
    assert torch.equal(first["end"], second["end"])


def test_traffic_falls_by_the_period(runs: list[tuple]) -> None:
    model = network()
    gradients = 4 * sum(p.numel() for p in model.parameters())
    buffers = 4 * sum(b.numel() for b in model.buffers() if b.is_floating_point())
    for run in runs:
        sent = [payload for payload, _ in run[0]["steps"]]
        each = [now - before for before, now in zip([0, *sent], sent, strict=False)]
        averages = [gradients + buffers, 0, 0]
        assert each == [gradients] * WARMUP + (averages * 3)[: STEPS - WARMUP]
        assert 1 < run[0]["ratio"] < inf


def test_a_model_that_sends_its_buffers_at_each_step_is_refused(runs: list[tuple]) -> None:
    assert all("model sends its buffers" in run[1] for run in runs)


def test_a_parameter_server_gives_what_an_all_reduce_gives(runs: list[tuple]) -> None:
    assert torch.equal(runs[0][2]["end"], runs[1][2]["end"])
    torch.testing.assert_close(runs[0][2]["end"], runs[0][3], rtol=1e-6, atol=1e-7)
    size = 4 * runs[0][3].numel()
    assert runs[0][2]["traffic"] == {"reduce": STEPS * size, "broadcast": (STEPS + 1) * size}


def test_a_period_of_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match="period must be 2 or more, got 1"):
        Averaging(1)
