"""Who takes part in which case."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cvperf.backends import registry
from cvperf.bench.peers import ours, select
from cvperf.bench.problems.nms import NmsShape

SHAPE = NmsShape(name="10 uniform", boxes=10, arrangement="uniform")


def joining(shape: NmsShape, names: list[str] | None = None) -> set[str]:
    peers = (*ours.contenders("cpu"), *select(names, "cpu"))
    return {peer.name for peer in peers if peer.joins(shape)}


def test_a_shape_that_names_its_peers_races_those_and_us() -> None:
    assert joining(replace(SHAPE, peers=("torchvision",))) == {"cvperf", "torchvision"}


def test_what_compiles_for_seconds_takes_part_where_marked_quick_or_asked_for() -> None:
    assert "torch.compile" not in joining(SHAPE)
    assert "torch.compile" in joining(replace(SHAPE, quick=True))
    assert "torch.compile" in joining(SHAPE, ["torch.compile"])


def test_the_drop_in_takes_part_only_where_it_is_named() -> None:
    assert "cvperf drop-in" not in joining(SHAPE)
    assert "cvperf drop-in" in joining(replace(SHAPE, peers=("cvperf drop-in",)))


@pytest.mark.parametrize("name", ["one-thread", "sweep"])
def test_other_forms_of_ourselves_take_part_only_where_asked_for(name: str) -> None:
    assert name not in joining(SHAPE)
    assert name in joining(SHAPE, [name])


def test_on_a_gpu_each_of_our_backends_is_a_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [one for one in registry.backends() if one.device == "cpu"]
    (cpu,) = [one for one in known if (one.op, one.name) == ("nms", "cpu")]
    made_up = [replace(cpu, name=name, device="cuda") for name in ("cuda", "triton")]
    monkeypatch.setattr(ours, "backends", lambda: (*known, *made_up))
    both = ours.contenders("cuda")
    assert [peer.name for peer in both] == ["cvperf cuda", "cvperf triton"]
    assert all(set(peer.makers) == {"nms"} for peer in both)
    assert all(peer.joins(replace(SHAPE, peers=("torchvision",))) for peer in both)


def test_a_backends_contender_runs_on_that_backend() -> None:
    with ours._on("reference", "cpu").contender(SHAPE.problem()).context():
        chosen = registry.select("nms", "cpu", torch.float32)
    assert chosen.name == "reference"
