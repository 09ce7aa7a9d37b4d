"""Runs that start from what another network has learned, on scikit-learn's digits."""

import pytest
import torch

from cvperf.data import load, per_class
from cvperf.train import catalogue, sets
from cvperf.train.neighbours import pixel_accuracy
from cvperf.train.run import train


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """See ``one_thread``."""


def recipe(widths, **sections):
    model = {"name": "small_cnn", "options": {"widths": widths}, **sections.pop("model", {})}
    return catalogue.from_mapping(
        {
            "data": {"name": "digits", "holdout": 0.1, **sections.pop("data", {})},
            "model": model,
            "epochs": 1,
            "batch_size": 64,
            **sections,
        }
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The folder of a wide network's run, and its figures."""
    outcome = train(recipe([32, 64], epochs=3), "wide", tmp_path_factory.mktemp("wide"))
    return outcome.path, outcome.figures


def test_a_narrow_network_is_ahead_with_a_wide_ones_channels(wide, tmp_path):
    found = {
        name: train(
            recipe([16, 32], model={"narrow_from": source}, optimizer={"lr": 0.01}),
            name,
            tmp_path / name,
        ).figures["accuracy"]
        for name, source in {"random": "", "narrow": str(wide[0])}.items()
    }
    assert found["narrow"] > found["random"] + 0.1


def test_a_wide_network_that_is_a_recipe_is_trained_in_the_runs_folder(tmp_path):
    (tmp_path / "wide.yaml").write_text(catalogue.to_yaml(recipe([8, 16])))
    source = {"narrow_from": str(tmp_path / "wide.yaml")}
    train(recipe([4, 8], model=source), "narrow", tmp_path / "narrow")
    assert (tmp_path / "narrow/wide/result.json").exists()


def test_a_probe_of_frozen_layers_is_ahead_of_a_random_head(wide, tmp_path):
    weights = tmp_path / "weights.pth"
    state = torch.load(wide[0] / "best.ckpt", weights_only=True)["model"]
    other = {"head.weight": torch.zeros(3, 64), "head.bias": torch.zeros(3)}
    torch.save({**state, **other}, weights)  # the head is for other classes, so it starts anew
    still = {"name": "sgd", "lr": 1e-6}
    found = {}
    for probe in (False, True):
        model = {"weights": str(weights), "freeze": ["features.*"], "probe": probe}
        few = recipe([32, 64], model=model, optimizer=still, data={"change": {"per_class": 5}})
        found[probe] = train(few, "few", tmp_path / str(probe)).figures["accuracy"]
    assert found[True] > 0.7
    assert found[True] > found[False] + 0.3


def test_neighbours_of_pixels_are_told_beside(tmp_path):
    few = recipe([4, 8], pixel_neighbours=1, data={"change": {"per_class": 5}})
    figures = train(few, "few", tmp_path / "few").figures
    assert 0.5 < figures["pixel_knn_accuracy"] < 1


def test_an_image_is_its_own_nearest_neighbour():
    some = per_class(load("digits", "train"), 3)
    assert pixel_accuracy(some, some, 1) == 1


def test_a_limit_of_test_images_takes_always_the_same():
    data = recipe([4], data={"test_limit": 9}).data
    some, again = sets.load(data, 0).test, sets.load(data, 1).test
    assert len(some) == 9
    assert torch.equal(some.labels, again.labels)
