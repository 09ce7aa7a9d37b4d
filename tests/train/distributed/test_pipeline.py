"""A network cut over processes computes what it computes in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cvperf.errors import ArgumentError
from cvperf.train.distributed import launch
from cvperf.train.distributed.blocks import blocks, parameter_bytes
from cvperf.train.distributed.pipeline import Pipeline, Stage, cut_points

from distributed_toys import furthest, gradients, network, pictures  # isort: skip

MICROBATCHES, BATCH = 4, 8


def run_stage(model: nn.Module, config: Pipeline, weights: Path | None = None) -> dict[str, object]:
    images, targets = pictures(BATCH)
    example = images[: BATCH // MICROBATCHES]
    stage = Stage(model, example, nn.functional.cross_entropy, config)
    if weights:
        stage.load(weights)
    loss = stage.step(images, targets)
    return {
        "loss": loss,
        "gradients": {name: p.grad for name, p in stage.module.named_parameters()},
        "buffers": dict(stage.module.named_buffers()),
        "bytes": parameter_bytes(stage.module),
    }


def stages(weights: Path) -> dict[str, dict[str, object]]:
    with torch.device("meta"):
        nowhere = network()
    return {
        "1f1b": run_stage(network(), Pipeline(MICROBATCHES, "1f1b", "flops")),
        "gpipe": run_stage(nowhere, Pipeline(MICROBATCHES, "gpipe", "parameters"), weights),
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    weights = tmp_path_factory.mktemp("weights") / "whole.safetensors"
    save_file(network().state_dict(), weights)
    return launch.run(stages, 2, weights)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_gradients_and_batch_norms_are_those_of_one_process(
    runs: list[dict], schedule: str
) -> None:
    """1F1B from a network in memory, GPipe from one without, whose stages read their weights."""
    alone = network()
    expected = gradients(alone, *pictures(BATCH), parts=MICROBATCHES)
    first, second = (run[schedule] for run in runs)
    assert not first["gradients"].keys() & second["gradients"].keys()
    assert furthest(first["gradients"] | second["gradients"], expected) < 1e-6
    for name, buffer in (first["buffers"] | second["buffers"]).items():
        torch.testing.assert_close(buffer, alone.get_buffer(name), rtol=1e-6, atol=1e-7)


def test_the_last_stage_has_the_mean_loss(runs: list[dict]) -> None:
    images, targets = pictures(BATCH)
    parts = zip(images.chunk(MICROBATCHES), targets.chunk(MICROBATCHES), strict=True)
    model = network()
    losses = [nn.functional.cross_entropy(model(some), classes) for some, classes in parts]
    expected = torch.stack(losses).mean()
    assert runs[0]["1f1b"]["loss"] is None
    torch.testing.assert_close(runs[1]["1f1b"]["loss"], expected)


def test_no_process_holds_the_whole_network(runs: list[dict]) -> None:
    whole = parameter_bytes(network())
    held = [run["gpipe"]["bytes"] for run in runs]
    assert sum(held) == whole
    assert max(held) < whole


@pytest.fixture
def nowhere() -> nn.Module:
    with torch.device("meta"):
        return network()


@pytest.mark.parametrize(
    ("balance", "expected"),
    # 18,432 of 20,418 weights are in the first linear layer; most work is in the residual blocks.
    [("parameters", ["2"]), ("flops", ["0.3"])],
)
def test_the_cut_makes_the_heaviest_stage_lightest(
    nowhere: nn.Module, balance: str, expected: list[str]
) -> None:
    images = torch.empty(1, 1, 12, 12, device="meta")
    assert cut_points(nowhere, images, 2, balance) == expected


def test_a_network_is_not_cut_into_more_stages_than_it_has_blocks(nowhere: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="blocks to cut between, and 40 stages"):
        cut_points(nowhere, torch.empty(1, 1, 12, 12, device="meta"), 40, "flops")


def test_blocks_are_children_of_sequences_and_a_heavy_one_is_opened() -> None:
    model = network()
    names = [name for name, _ in blocks(model)]
    assert names == ["0.0", "0.1", "0.2", "0.3", "0.4", "1", "2", "3", "4"]
    opened = [name for name, _ in blocks(model, most=1000)]
    assert opened[2:6] == ["0.2.conv", "0.2.norm", "0.3.conv", "0.3.norm"]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"microbatches": 0}, "microbatches must be 1 or more, got 0"),
        ({"schedule": "2f2b"}, "schedule must be one of gpipe, 1f1b"),
        ({"balance": "luck"}, "balance must be one of parameters, flops"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        Pipeline(**values)
