"""A recipe of detection carried out, and what its folder has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cvperf.data.sets import SETS
from cvperf.errors import ArgumentError
from cvperf.train import catalogue, checkpoint, finished, sets
from cvperf.train.recipe import (
    Data,
    Detection,
    Distil,
    Loss,
    Model,
    Optimizer,
    Recipe,
    Schedule,
    Watch,
)
from cvperf.train.run import train
from tests.train.detection.blocks import Blocks

RECIPE = Recipe(
    task="detection",
    data=Data("blocks", augment=["horizontal_flip", "sanitize_boxes"]),
    model=Model("mask-rcnn"),
    loss=Loss(weights={"loss_mask": 0.5}),
    detection=Detection(sizes=[64, 96]),
    optimizer=Optimizer("adamw", 1e-3),
    watch=Watch("ap50"),
    epochs=2,
    batch_size=4,
    kernels=[],
)
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg", "loss_mask"}


@pytest.fixture(scope="module", autouse=True)
def blocks() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETS, "blocks", Blocks)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The folder of a run, and its figures."""
    path = tmp_path_factory.mktemp("run")
    return path, train(RECIPE, "blocks", path).figures


def test_figures_are_of_boxes_and_masks(run) -> None:
    _, figures = run
    assert {"ap", "ap50", "ap50/lying", "recall@100", "mask_ap", "mask_ap50"} <= set(figures)
    assert all(value >= 0 for value in figures.values())


def test_each_loss_is_logged_and_together_they_are_the_loss(run) -> None:
    lines = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert set(line["train"]) == {"loss", *LOSSES}
        assert line["train"]["loss"] == pytest.approx(sum(line["train"][n] for n in LOSSES))
    assert lines[1]["train"]["loss"] < lines[0]["train"]["loss"]


def test_the_report_has_pictures(run) -> None:
    page = (run[0] / "report.html").read_text()
    assert page.count("<image ") == 16
    assert "loss_rpn_box_reg" in page
    assert "Worst errors" not in page
    assert "<td" in page


def test_the_best_model_is_judged_again_to_the_same_figures(run) -> None:
    path, figures = run
    assert finished.evaluate(path) == figures
    assert set(finished.evaluate(path, "train")) >= {"ap", "mask_ap50"}


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path) -> None:
    """In another epoch: sizes and samples are drawn by the step."""
    constant = replace(
        RECIPE,
        data=Data("blocks", {"count": 8}),
        model=Model("faster-rcnn"),
        loss=Loss(),
        schedule=Schedule("constant"),
    )
    train(constant, "blocks", tmp_path / "whole")
    again = tmp_path / "again"
    train(replace(constant, epochs=1), "blocks", again)
    (again / "recipe.yaml").write_text(catalogue.to_yaml(constant))
    train(constant, "blocks", again)
    whole, other = (checkpoint.read(path / "last.ckpt") for path in (tmp_path / "whole", again))
    assert all(torch.equal(whole["model"][n], other["model"][n]) for n in whole["model"])
    assert [line["train"] for line in whole["history"]] == [
        line["train"] for line in other["history"]
    ]


def test_a_set_without_a_split_for_validation_can_hold_some_out() -> None:
    images = sets.load(Data("blocks", holdout=0.25), seed=0)
    assert (len(images.train), len(images.validation)) == (12, 4)
    assert images.train.labels is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distil": Distil(teacher="x")}, "does not go with distil"),
        ({"loss": Loss("focal")}, r"does not go with loss \(but for loss\.weights\)"),
        ({"model": Model("mask-rcnn", probe=True)}, r"does not go with model\.probe"),
        ({"data": Data("blocks", mean=[0.4])}, r"does not go with data\.mean"),
        ({"task": "detecting"}, "unknown task 'detecting'; did you mean 'detection'"),
        ({"task": "classification"}, "for task=detection"),
        (
            {"data": Data("digits", holdout=0.1)},
            r"needs images with boxes, and data\.name='digits'",
        ),
        ({"model": Model("masc-rcnn")}, "did you mean 'mask-rcnn'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_training(change, message, tmp_path) -> None:
    with pytest.raises(ArgumentError, match=message):
        train(replace(RECIPE, **change), "blocks", tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_boxes_without_the_task_are_refused_with_the_way_out(tmp_path) -> None:
    plain = Recipe(data=Data("blocks"), model=Model("lenet"), kernels=[])
    with pytest.raises(ArgumentError, match="to train on boxes: task=detection"):
        train(plain, "blocks", tmp_path)
