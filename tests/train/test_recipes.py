"""Recipes: YAML checked against dataclasses."""

import pytest

from cvperf.data import transforms
from cvperf.errors import ArgumentError
from cvperf.models.detection import known_detectors
from cvperf.train import catalogue
from cvperf.train.recipe import Recipe
from tests.data.transforms.scenes import rectangles


@pytest.mark.parametrize("name", catalogue.names())
def test_each_recipe_that_ships_says_what_it_does_and_costs(name):
    recipe = catalogue.load(name)
    assert recipe.about
    assert recipe.cost


DETECTION = [name for name in catalogue.names() if catalogue.load(name).task == "detection"]


@pytest.mark.parametrize("name", DETECTION)
def test_each_recipe_of_detection_has_a_detector_and_transforms_that_carry_boxes(name):
    recipe = catalogue.load(name)
    assert recipe.model.name in known_detectors()
    assert recipe.watch.figure in ("ap50", "mask_ap50")
    image, target = rectangles()
    _, after = transforms.build(recipe.data.augment)(image, target)
    assert len(after["boxes"]) == len(after["labels"]) == len(after["masks"])


def test_the_command_line_changes_single_values():
    recipe = catalogue.load(
        "fashion-mnist/lenet", ["optimizer.lr=0.5", "epochs=3", "optimizer.options.momentum=0.5"]
    )
    assert (recipe.optimizer.lr, recipe.epochs) == (0.5, 3)
    assert recipe.optimizer.options == {"momentum": 0.5, "nesterov": True}


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ("lr=1", "optimizer.lr"),
        ("optimiser.lr=1", "optimizer"),
        ("batchsize=8", "batch_size"),
        ("data.augmnt=[]", "data.augment"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(change, nearest):
    with pytest.raises(ArgumentError, match=f"did you mean '{nearest}"):
        catalogue.load("fashion-mnist/lenet", [change])


def test_a_key_like_no_other_lists_the_known_ones():
    with pytest.raises(ArgumentError, match=r"unknown recipe key 'zzz'; known: about, cost, task"):
        catalogue.load("fashion-mnist/lenet", ["zzz=1"])


def test_a_value_of_the_wrong_type_names_its_key():
    with pytest.raises(ArgumentError, match=r"epochs.*many"):
        catalogue.load("fashion-mnist/lenet", ["epochs=many"])


def test_a_recipe_without_a_model_says_so(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {name: digits}\n")
    with pytest.raises(ArgumentError, match=r"model\.name"):
        catalogue.load(tmp_path / "mine.yaml")


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'fashion-mnist/lenet'"):
        catalogue.load("fashion-mnist/lennet")


def test_a_recipe_is_read_back_as_it_was_written(tmp_path):
    recipe = catalogue.load("fashion-mnist/lenet", ["loss.mixup=0.2"])
    (tmp_path / "recipe.yaml").write_text(catalogue.to_yaml(recipe))
    again = catalogue.load(tmp_path / "recipe.yaml")
    assert isinstance(again, Recipe)
    assert again == recipe


def test_what_is_no_yaml_names_the_file_and_the_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("epochs: 3\nabout: a: b\n")
    with pytest.raises(ArgumentError, match=r"mine\.yaml: mapping values .*(\n.*)* line 2"):
        catalogue.load(tmp_path / "mine.yaml")
