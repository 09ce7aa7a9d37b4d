"""Images of another domain beside those that have labels."""

import math

import pytest
import torch
import torch.nn.functional as F

from cvperf.data import Augmented, load, transforms
from cvperf.errors import ArgumentError
from cvperf.train import catalogue, checkpoint, sets
from cvperf.train.adapt import Domain, coral, information
from cvperf.train.loop import Observer
from cvperf.train.recipe import Adapt, Data
from cvperf.train.run import train

NEGATIVES = {"name": "digits", "options": {"half": 2}, "look": [{"name": "invert", "p": 1.0}]}


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """See ``one_thread``."""


def recipe(epochs=2, **adapt):
    return catalogue.from_mapping(
        {
            "data": {
                "name": "digits",
                "options": {"half": 1},
                "holdout": 0.1,
                "augment_batch": [{"name": "gaussian_noise", "sigma": 0.02}],
            },
            "adapt": adapt,
            "model": {"name": "small_cnn", "options": {"widths": [8, 16]}},
            "optimizer": {"lr": 0.05, "options": {"momentum": 0.9}},
            "epochs": epochs,
            "batch_size": 64,
            "checkpoint_minutes": 0,  # one after each step
        }
    )


def test_coral_is_the_squared_distance_of_the_covariances():
    logits = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # variance 2 of the first
    foreign = torch.tensor([[0.0, 3.0], [0.0, -3.0]])  # variance 18 of the second
    assert float(coral(logits, foreign)) == pytest.approx((2**2 + 18**2) / (4 * 2**2))
    assert float(coral(logits, logits + 5)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (F.one_hot(torch.arange(8) % 4) * 50.0, -math.log(4)),  # sure, and of all classes
        (F.one_hot(torch.zeros(8, dtype=torch.int64), 4) * 50.0, 0.0),  # all of one class
        (torch.zeros(8, 4), 0.0),  # sure of nothing
    ],
)
def test_information_is_least_for_sure_answers_of_all_classes(answers, expected):
    assert float(information(torch.zeros(8, 4), answers)) == pytest.approx(expected, abs=1e-4)


def test_the_weight_counts_and_an_unknown_method_names_the_known_ones():
    images = Augmented(load("digits", "train"), None)
    logits, foreign = torch.randn(6, 4), torch.randn(6, 4)
    found = Domain(images, Adapt(weight=3.0)).fitted(torch.tensor(2.0), logits, foreign)
    assert float(found) == pytest.approx(float(2 + 3 * coral(logits, foreign)))
    with pytest.raises(ArgumentError, match="coral, information"):
        Domain(images, Adapt(method="corral")).fitted(torch.tensor(2.0), logits, foreign)


def test_what_is_drawn_is_a_matter_of_torchs_seed_alone():
    noise = transforms.build([{"name": "gaussian_noise", "sigma": 0.1}])
    domain = Domain(Augmented(load("digits", "train"), noise), Adapt())
    like, drawn = torch.zeros(5, 1, 8, 8, dtype=torch.uint8), []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(domain.draw(like))
        other = domain.draw(like)
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], other)


def test_images_of_another_shape_are_refused():
    domain = Domain(Augmented(load("digits", "train"), None), Adapt(name="digits"))
    with pytest.raises(ArgumentError, match=r"\[1, 8, 8\].*\[3, 8, 8\].*data\.prepare"):
        domain.draw(torch.zeros(5, 3, 8, 8))


def test_the_run_is_tested_on_the_domain_and_validated_on_its_own_images():
    config = recipe(**NEGATIVES)
    found = sets.load(config.data, 0, config.adapt)
    plain = sets.load(config.data, 0)
    assert plain.foreign is None
    assert torch.equal(found.test[3][0], 255 - plain.test[3][0])
    assert torch.equal(found.validation[3][0], plain.validation[3][0])
    assert len(found.foreign) == len(load("digits", "train", half=2))


def test_a_domain_of_other_classes_is_refused(monkeypatch):
    monkeypatch.setattr(type(load("digits", "train")), "classes", ("a", "b"), raising=False)
    with pytest.raises(ArgumentError, match="has other classes than"):
        sets._adapted(
            sets.Sets(_Named(), None, None, None), Data(name="x"), Adapt(name="digits"), 0
        )


class _Named:
    classes = ("0", "1")


def test_only_a_domain_with_a_weight_changes_the_model(tmp_path):
    ends = {}
    for name, adapt in {
        "without": {},
        "zero": {**NEGATIVES, "weight": 0.0},
        "one": {**NEGATIVES, "weight": 1.0},
    }.items():
        train(recipe(epochs=1, **adapt), name, tmp_path / name)
        state = checkpoint.read(tmp_path / name / "last.ckpt")["model"]
        ends[name] = state["features.0.weight"]
    assert torch.equal(ends["without"], ends["zero"])
    assert not torch.equal(ends["without"], ends["one"])


class StoppedError(Exception):
    """Stands for what ends a run."""


class StopAt(Observer):
    def __init__(self, step):
        self.step = step

    def step_done(self, run, batch):
        if run.step == self.step:
            raise StoppedError


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path):
    with pytest.raises(StoppedError):
        train(recipe(**NEGATIVES), "stopped", tmp_path / "stopped", observers=[StopAt(5)])
    train(recipe(**NEGATIVES), "stopped", tmp_path / "stopped")
    train(recipe(**NEGATIVES), "whole", tmp_path / "whole")
    ends = [
        checkpoint.read(tmp_path / name / "last.ckpt")["model"] for name in ("stopped", "whole")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
