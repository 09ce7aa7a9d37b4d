"""A recipe carried out from the command line, on scikit-learn's digits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cvperf.cli import app
from cvperf.train import catalogue, checkpoint, command, tune

RECIPE = """
about: digits
data: {name: digits, holdout: 0.1, augment: [{name: random_crop, padding: 1}],
       augment_batch: [{name: gaussian_noise, sigma: 0.02}]}
model: {name: small_cnn, options: {widths: [16, 32]}}
optimizer: {lr: 0.1, options: {momentum: 0.9}}
epochs: 3
batch_size: 32
"""


def cvperf(*words: object) -> tuple[int, dict, str]:
    """Exit code, the JSON of the last line, and what else was said."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    lines = result.stdout.strip().splitlines()
    found = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return result.exit_code, found, result.stderr


@pytest.fixture(scope="module", autouse=True)
def one_thread_in_this_module() -> Iterator[None]:
    """Also for the run that all tests here look at: sums of two threads have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "digits.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> tuple[Path, dict, str]:
    """The folder of a run, its line, and what it said."""
    folder = recipe.parent / "run"
    code, line, said = cvperf("train", recipe, "--folder", folder)
    assert code == 0, said
    return folder, line, said


def test_a_run_ends_with_one_line_of_figures(finished) -> None:
    folder, line, said = finished
    assert line["accuracy"] > 0.6
    assert line["run"] == str(folder)
    assert line["seconds"] > 0
    assert said.count("validation") == 3  # a line an epoch, on standard error


def test_its_folder_has_recipe_figures_checkpoints_and_report(finished) -> None:
    folder, line, _ = finished
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [one["epoch"] for one in lines] == [1, 2, 3]
    assert json.loads((folder / "result.json").read_text())["accuracy"] == line["accuracy"]
    assert catalogue.load(folder / "recipe.yaml").data.name == "digits"
    assert "aten::convolution" in (folder / "report.html").read_text()
    assert checkpoint.read(folder / "last.ckpt")["epoch"] == 3
    assert list(folder.glob("events.out.tfevents*"))


def test_its_best_model_can_be_judged_again(finished) -> None:
    folder, line, _ = finished
    code, again, _ = cvperf("evaluate", folder)
    assert code == 0
    assert again["accuracy"] == line["accuracy"]
    assert cvperf("evaluate", folder, "--split", "train")[1]["accuracy"] > 0.6


def test_a_change_with_several_values_is_a_curve(finished) -> None:
    folder, line, _ = finished
    code, curve, _ = cvperf("evaluate", folder, "loss.label_smoothing=0|0.5", "batch_size=10")
    assert code == 0
    assert curve["loss.label_smoothing"] == ["0", "0.5"]
    assert curve["accuracy"] == [line["accuracy"]] * 2
    assert curve["loss"][0] < curve["loss"][1]
    code, _, said = cvperf("evaluate", folder, "seed=0|1", "batch_size=8|16")
    assert code == 2
    assert "one key at a time may have several values, got seed=0|1 and batch_size=8|16" in said


def test_what_a_value_has_no_figure_of_is_none_in_the_curve(monkeypatch, capsys) -> None:
    """As where no object of a size is left."""
    figures = {"a=1": {"ap": 0.5}, "a=2": {"ap": 0.4, "ap_large": 0.3}}
    monkeypatch.setattr(command, "evaluate", lambda path, split, changes: figures[changes[-1]])
    command.run_evaluate(Path("run"), "", ["a=1|2"])
    told = json.loads(capsys.readouterr().out)
    assert (told["ap"], told["ap_large"]) == ([0.5, 0.4], [None, 0.3])


def test_a_finished_run_is_not_trained_again(finished, recipe: Path) -> None:
    folder, line, _ = finished
    before = (folder / "last.ckpt").stat().st_mtime_ns
    code, again, said = cvperf("train", recipe, "--folder", folder)
    assert code == 0, said
    assert again["accuracy"] == line["accuracy"]
    assert (folder / "last.ckpt").stat().st_mtime_ns == before


def test_the_folder_of_another_recipe_is_refused(finished, recipe: Path) -> None:
    code, _, said = cvperf("train", recipe, "epochs=4", "--folder", finished[0])
    assert code == 2
    assert "has a run of another recipe" in said


def test_a_killed_run_goes_on_to_the_same_end(finished, recipe: Path, tmp_path: Path) -> None:
    """Killed without warning in its first epoch, between two checkpoints."""
    command = [sys.executable, "-m", "cvperf.cli", "train", str(recipe), "--folder", str(tmp_path)]
    changes = ["checkpoint_minutes=0"]  # one after each step
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, *changes], stderr=subprocess.DEVNULL, env=alone) as process:
        last = tmp_path / "last.ckpt"
        deadline = time.monotonic() + 120
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    killed = checkpoint.read(last)
    assert killed["step"] < checkpoint.read(finished[0] / "last.ckpt")["step"]
    code, line, said = cvperf("train", recipe, *changes, "--folder", tmp_path)
    assert code == 0, said
    ends = [checkpoint.read(folder / "last.ckpt")["model"] for folder in (finished[0], tmp_path)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert line["accuracy"] == finished[1]["accuracy"]


def test_a_misspelt_key_is_refused_before_anything_is_done(recipe: Path) -> None:
    code, _, said = cvperf("train", recipe, "optimiser.lr=1")
    assert code == 2
    assert "did you mean 'optimizer" in said


def test_the_recipes_are_listed() -> None:
    result = CliRunner().invoke(app, ["train", "--list"])
    assert result.exit_code == 0
    assert "fashion-mnist/lenet" in result.stdout


def test_a_search_keeps_its_trials_and_goes_on(recipe: Path, tmp_path: Path) -> None:
    words = ("tune", recipe, "epochs=1", "optimizer.lr=1e-5..0.1:log", "--folder", tmp_path)
    assert cvperf(*words, "--trials", 1)[0] == 0
    code, line, _ = cvperf(*words, "--trials", 2)
    assert code == 0
    assert len(list(tmp_path.glob("trial-*/result.json"))) == 2
    assert 1e-5 <= line["values"]["optimizer.lr"] <= 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1|2|x", tune.Range("a.b", ("1", "2", "x"))),
        ("a=0..0.5", tune.Range("a", (), 0, 0.5)),
        ("a=1e-3..1:log", tune.Range("a", (), 1e-3, 1, True)),
        ("a=3", "a=3"),
    ],
)
def test_ranges_are_read(text: str, expected: object) -> None:
    assert tune.parse(text) == expected


@pytest.mark.parametrize("text", ["a", "a=1..0", "a=0..1:log", "a=x..y", "a=1..2:lin"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(tune.ArgumentError, match=r"is no key=value|a range is low\.\.high"):
        tune.parse(text)
