"""Compressed gradients: what is sent is counted, and training still follows the gradient."""

from __future__ import annotations

from math import prod

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cvperf.errors import ArgumentError
from cvperf.train.distributed import launch
from cvperf.train.distributed.compression import Compression, compress
from cvperf.train.distributed.scaling import payload

from distributed_toys import furthest, gradients, network, pictures  # isort: skip

WAYS = {
    "none": Compression(),
    "fp16": Compression("fp16"),
    "bf16": Compression("bf16"),
    "powersgd": Compression("powersgd", rank=1, start_step=2),
    "powersgd, rank 4": Compression("powersgd", rank=4, start_step=2),
    "powersgd in fp16": Compression("powersgd", rank=1, start_step=2, factors="fp16"),
}
STEPS, START, BATCH = 12, 2, 16


def train(way: Compression) -> dict[str, object]:
    model = DistributedDataParallel(network(norm=False))
    compressed = compress(nn.Sequential(model), way)  # found inside a wrapper too
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    images, targets = (part.chunk(2)[dist.get_rank()] for part in pictures(BATCH))
    losses, sent = [], []
    for step in range(STEPS):
        before = compressed.traffic.payload
        loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        sent.append(compressed.traffic.payload - before)
        if step == 0:
            first = {name: p.grad.clone() for name, p in model.module.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    weights = [p.detach() for p in model.parameters()]
    return {
        **{"first": first, "losses": losses, "sent": sent, "weights": weights},
        "gradients": compressed.traffic.gradients,
        "ratio": compressed.traffic.ratio,
    }


def train_every_way() -> dict[str, dict[str, object]]:
    return {name: train(way) for name, way in WAYS.items()}


@pytest.fixture(scope="module")
def runs() -> list[dict[str, dict[str, object]]]:
    return launch.run(train_every_way, 2)


@pytest.fixture(scope="module")
def shapes() -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in network(norm=False).parameters()]


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(runs: list[dict]) -> None:
    expected = gradients(network(norm=False), *pictures(BATCH))
    assert furthest(runs[0]["none"]["first"], expected) < 1e-6


@pytest.mark.parametrize("name", WAYS)
def test_what_is_sent_is_counted_to_the_byte(
    runs: list[dict], shapes: list[tuple[int, ...]], name: str
) -> None:
    whole = WAYS["fp16"] if name in ("fp16", "powersgd in fp16") else WAYS["none"]
    warmup = START if "powersgd" in name else 0
    expected = [payload(shapes, whole)] * warmup
    expected += [payload(shapes, WAYS[name])] * (STEPS - warmup)
    for run in runs:
        assert run[name]["sent"] == expected
        assert run[name]["gradients"] == STEPS * 4 * sum(map(prod, shapes))
        assert run[name]["ratio"] == run[name]["gradients"] / sum(expected)


def test_powersgd_in_halves_sends_at_least_50_times_less_for_a_network_of_matrices(
    runs: list[dict],
) -> None:
    last = runs[0]["none"]["sent"][-1] / runs[0]["powersgd in fp16"]["sent"][-1]
    assert last >= 50


@pytest.mark.parametrize("name", WAYS)
def test_processes_agree_bit_for_bit_and_learn(runs: list[dict], name: str) -> None:
    for a, b in zip(runs[0][name]["weights"], runs[1][name]["weights"], strict=True):
        assert torch.equal(a, b)
    losses = [(a + b) / 2 for a, b in zip(*(run[name]["losses"] for run in runs), strict=True)]
    plain = [(a + b) / 2 for a, b in zip(*(run["none"]["losses"] for run in runs), strict=True)]
    assert losses[-1] < losses[0] - 0.5 * (plain[0] - plain[-1])


def test_a_model_without_ddp_is_refused() -> None:
    with pytest.raises(ArgumentError, match="must be a DistributedDataParallel or hold one"):
        compress(nn.Linear(2, 2), Compression())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "zip"}, "kind must be one of none, fp16, bf16, powersgd"),
        ({"kind": "powersgd", "rank": 0}, "rank must be 1 or more, got 0"),
        ({"kind": "powersgd", "start_step": 1}, "start_step must be 2 or more, got 1"),
        ({"kind": "powersgd", "factors": "int8"}, "factors must be one of fp32, fp16, bf16"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        Compression(**values)
