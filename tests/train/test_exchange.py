"""A recipe in two processes: the model of one process, by each way to exchange."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.errors import ArgumentError
from cvperf.train import exchange, finished
from cvperf.train.distributed import launch
from cvperf.train.loop import Observer
from cvperf.train.recipe import Processes
from cvperf.train.run import train

import recipes_of_two  # isort: skip
from recipes_of_two import NORMED, RECIPE, SHARDED, SHORT, WAYS, weights_in  # isort: skip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ways")


@pytest.fixture(scope="module")
def by_two(folder: Path) -> list[dict[str, dict[str, float]]]:
    """What each of two processes found, by way to exchange."""
    return launch.run(recipes_of_two.each_way, 2, folder, timeout_s=240)


@pytest.fixture(scope="module")
def by_one(folder: Path) -> dict[str, float]:
    return train(SHORT, "digits", folder / "one").figures


def test_two_processes_train_the_model_of_one(folder: Path, by_two, by_one) -> None:
    one, two = weights_in(folder / "one"), weights_in(folder / "plain")
    assert (two - one).abs().max() <= 1e-6 * one.abs().max()
    assert by_two[0]["plain"]["accuracy"] == by_one["accuracy"]


def test_so_they_do_with_the_model_in_parts(folder: Path, by_two, by_one) -> None:
    one, two = weights_in(folder / "one"), weights_in(folder / "sharded")
    assert (two - one).abs().max() <= 1e-6 * one.abs().max()


@pytest.mark.parametrize("way", ["plain", "sharded", *WAYS, "normed"])
def test_both_tell_the_same_figures(folder: Path, by_two, way: str) -> None:
    first, second = (found[way] for found in by_two)
    assert first == second
    said = json.loads((folder / way / "result.json").read_text())
    assert {name: said[name] for name in first} == first
    assert finished.evaluate(folder / way)["accuracy"] == pytest.approx(first["accuracy"])


@pytest.mark.parametrize("way", WAYS)
def test_each_way_learns(by_two, way: str) -> None:
    assert by_two[0][way]["accuracy"] > 0.85


@pytest.mark.parametrize(("way", "times"), [("fp16", 2), ("powersgd", 3), ("local", 2)])
def test_less_is_sent(by_two, way: str, times: float) -> None:
    found = by_two[0][way]
    assert found["gradients_mb"] / found["sent_mb"] >= times


def test_a_run_goes_on_in_two_parts_from_the_checkpoint_of_one(folder: Path) -> None:
    class Stop(Observer):
        def epoch_done(self, run, best) -> None:
            if run.epoch == 1:
                raise KeyboardInterrupt

    recipe = replace(SHARDED, epochs=2)
    train(recipe, "digits", folder / "undisturbed")
    with pytest.raises(KeyboardInterrupt):  # by one process, and resumed by two
        train(recipe, "digits", folder / "stopped", [Stop()])
    launch.run(recipes_of_two.go_on, 2, folder / "stopped", timeout_s=120)
    one, two = weights_in(folder / "undisturbed"), weights_in(folder / "stopped")
    assert (two - one).abs().max() <= 1e-5 * one.abs().max()


def test_an_optimizer_without_moments_goes_on_too(tmp_path: Path) -> None:
    assert (
        launch.run(recipes_of_two.again_without_moments, 2, tmp_path, timeout_s=120) == [True] * 2
    )


@pytest.mark.parametrize(
    "processes",
    [
        Processes(compress="fp16", shard=True),
        Processes(compress="fp16", average_every=2),
        Processes(average_every=2, shard=True),
    ],
)
def test_one_way_at_a_time(processes: Processes) -> None:
    with pytest.raises(ArgumentError, match="exclude each other"):
        exchange.check(replace(RECIPE, processes=processes))


@pytest.mark.parametrize("processes", [Processes(shard=True), Processes(average_every=2)])
def test_no_average_of_weights_that_no_process_has(processes: Processes) -> None:
    with pytest.raises(ArgumentError, match="set average=0"):
        exchange.check(replace(NORMED, processes=processes, average=0.99))
