"""A linear probe: a head found by logistic regression on what the layers before it answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cvperf.data import ImageSet
from cvperf.errors import ArgumentError, describe
from cvperf.models import head_of
from cvperf.train.loader import in_order
from cvperf.train.objective import normalize_of
from cvperf.train.recipe import Recipe
from cvperf.train.sets import labels_of


def probe(model: nn.Module, recipe: Recipe, images: ImageSet) -> None:
    """Put scikit-learn's logistic regression of the images' features into the model's head.

    Args:
        model: its last layer, a ``Linear`` with a bias, is changed in place.
        recipe: says how images are normalised, and the batch size.
        images: not augmented, of one class each.

    Raises:
        ArgumentError: the last layer is of another kind, a class has no image, or the images have
            several classes or none each.
    """
    head = model.get_submodule(head_of(model))
    labels = labels_of(images)
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ArgumentError(f"model.probe needs a Linear with a bias as the last layer, got {head}")
    if labels.dtype != torch.int64:
        raise ArgumentError(f"model.probe needs one class an image, got labels {describe(labels)}")
    if (have := len(labels.unique())) != head.out_features:
        raise ArgumentError(
            f"model.probe needs images of each class: {have} of {head.out_features} have any"
        )
    features, targets = _features(model, head, recipe, images)
    weight, bias = regression(features.numpy(), targets.numpy())
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def regression(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [classes, F] and bias [classes] of the logits, for features [N, F] of any scale."""
    from sklearn.linear_model import LogisticRegression

    mean, std = features.mean(0), features.std(0)
    std[std == 0] = 1  # a feature that never changes tells nothing
    found = LogisticRegression(max_iter=1000).fit((features - mean) / std, targets)
    weight, bias = found.coef_, found.intercept_
    if len(weight) == 1:  # of two classes it gives the difference of the logits
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / std
    return weight, bias - weight @ mean


def _features(
    model: nn.Module, head: nn.Linear, recipe: Recipe, images: ImageSet
) -> tuple[Tensor, Tensor]:
    """float32 [N, F] that the head is given, and int64 [N], both on the CPU."""
    seen: list[Tensor] = []
    targets: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    normalize, training = normalize_of(recipe), model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in in_order(images, recipe.batch_size, head.weight.device):
                if len(batch.images):  # some could be read
                    model(normalize(batch.images))
                    targets.append(batch.targets.cpu())
    finally:
        hook.remove()
        model.train(training)
    return torch.cat(seen), torch.cat(targets)
