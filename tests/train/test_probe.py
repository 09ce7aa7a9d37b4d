"""A head that starts as a logistic regression."""

import numpy as np
import pytest
import torch
from torch import nn

from cvperf.data import InMemory, load
from cvperf.errors import ArgumentError
from cvperf.models import create_model
from cvperf.train.probe import probe, regression
from cvperf.train.recipe import Recipe


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """See ``one_thread``."""


@pytest.mark.parametrize("classes", [2, 3])
def test_the_logits_are_those_of_scikit_learn(classes):
    from sklearn.linear_model import LogisticRegression

    generator = np.random.RandomState(0)
    targets = np.arange(60) % classes
    features = generator.randn(60, 4) + targets[:, None]
    features = (features - features.mean(0)) / features.std(0)
    weight, bias = regression(features * 100 + 7, targets)  # the scale is no matter
    found = torch.from_numpy((features * 100 + 7) @ weight.T + bias).softmax(1).numpy()
    expected = LogisticRegression(max_iter=1000).fit(features, targets).predict_proba(features)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_feature_that_never_changes_leaves_no_nan():
    features = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.1], [1.0, 0.9]])
    weight, bias = regression(features, np.array([0, 1, 0, 1]))
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()


def test_a_probe_of_random_layers_names_most_digits():
    train, test = load("digits", "train"), load("digits", "test")
    model = create_model("small_cnn", 10, channels=1, widths=(32, 64))
    features = model.features[0].weight.clone()
    probe(model, Recipe(), train)
    assert model.training
    assert torch.equal(model.features[0].weight, features)
    with torch.inference_mode():
        answers = model.eval()((test.images / 255 - 0.5) / 0.5).argmax(1)
    assert (answers == test.labels).float().mean() > 0.8


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        (nn.Conv2d(1, 2, 8), [0, 1], "Linear with a bias"),
        (nn.Linear(64, 2, bias=False), [0, 1], "Linear with a bias"),
        (nn.Linear(64, 3), [0, 1], "2 of 3"),
        (nn.Linear(64, 2), [0.5, 1.5], "one class an image"),
    ],
)
def test_what_cannot_be_probed_is_refused(model, labels, message):
    images = InMemory(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor(labels), ["a", "b"])
    with pytest.raises(ArgumentError, match=message):
        probe(nn.Sequential(nn.Flatten(), model), Recipe(), images)
