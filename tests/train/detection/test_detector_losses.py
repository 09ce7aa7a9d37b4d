"""What a step of a detector makes smaller, with a detector that only takes notes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cvperf.data import Augmented, collate, transforms
from cvperf.errors import ArgumentError
from cvperf.models.detection.transform import Resize
from cvperf.train import assemble
from cvperf.train.detection.labels import from_model, to_model
from cvperf.train.detection.objective import DetectorLosses, at_size
from cvperf.train.fabric import launched
from cvperf.train.loop import forward_backward
from cvperf.train.recipe import Data, Model, Recipe
from cvperf.train.sets import Sets
from tests.train.detection.blocks import SIZE, Blocks


class Notes(nn.Module):
    """Answers with two losses, and keeps what it was called with."""

    def __init__(self, **resize: Any) -> None:
        super().__init__()
        self.transform = Resize(**{"min_size": None, **resize})
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.calls: list[tuple[Any, Any]] = []
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Any, targets: Any) -> dict[str, torch.Tensor]:
        self.calls.append((images, targets))
        self.sizes.append(tuple(self.transform(images)[0].shape[2:]))
        mean = sum(image.mean() for image in images) / len(images)
        return {"loss_box": mean * self.weight, "loss_mask": self.weight**2}


def batch(count: int = 5) -> Any:
    blocks = Blocks("train")
    return collate([blocks[index] for index in range(count)])


def test_images_become_floats_and_classes_count_from_1() -> None:
    model, given = Notes(), batch()
    DetectorLosses({})(model, given.images, given.targets)
    ((images, targets),) = model.calls
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    for one, other in zip(targets, given.targets, strict=True):
        assert torch.equal(one["labels"], other["labels"] + 1)
        assert type(one["boxes"]) is torch.Tensor
        assert torch.equal(one["boxes"], other["boxes"])
    back = from_model(targets)
    assert [one["labels"].tolist() for one in back] == [
        one["labels"].tolist() for one in given.targets
    ]


def test_the_model_is_not_told_what_it_does_not_learn() -> None:
    target = {"boxes": torch.zeros(1, 4), "labels": torch.zeros(1).long(), "visible": torch.ones(1)}
    assert set(to_model([{**target, "area": torch.ones(1)}])[0]) == {"boxes", "labels", "visible"}


def test_losses_are_weighted_by_name() -> None:
    given = batch()
    plain = DetectorLosses({})(Notes(), given.images, given.targets)
    weighted = DetectorLosses({"loss_mask": 0.25})(Notes(), given.images, given.targets)
    assert float(plain["loss_mask"].detach()) == 4
    assert float(weighted["loss_mask"].detach()) == 1
    assert weighted["loss_box"] == plain["loss_box"]


def test_the_weight_of_a_loss_that_the_model_has_not_names_the_nearest() -> None:
    given = batch()
    with pytest.raises(ArgumentError, match="'loss_masks'; did you mean 'loss_mask'"):
        DetectorLosses({"loss_masks": 2.0})(Notes(), given.images, given.targets)


@pytest.mark.parametrize(
    ("resize", "own"), [({}, SIZE), ({"min_size": 96}, 96), ({"fixed_size": (64, 64)}, 64)]
)
def test_each_batch_is_of_one_of_the_sizes_by_chance(resize: dict, own: int) -> None:
    model, given = Notes(**resize), batch()
    losses = DetectorLosses({}, sizes=(32, 128))
    for _ in range(8):
        losses(model, given.images, given.targets)
    assert set(model.sizes) == {(32, 32), (128, 128)}
    DetectorLosses({})(model, given.images, given.targets)  # and then its own again
    assert model.sizes[-1] == (own, own)


def test_a_size_is_forgotten_even_after_an_error() -> None:
    model = Notes(min_size=96)
    with pytest.raises(KeyError), at_size(model, 32):
        raise KeyError
    assert model.transform.min_size == 96


def test_a_model_that_does_not_resize_has_no_sizes() -> None:
    with pytest.raises(ArgumentError, match=r"detection\.sizes needs a model that resizes"):  # noqa: SIM117
        with at_size(nn.Linear(1, 1), 32):
            pass


def test_boxes_and_masks_go_with_a_batch_that_is_mirrored() -> None:
    model, given = Notes(), batch()
    mirror = transforms.build([{"name": "horizontal_flip", "p": 1}])
    plain = given._replace(targets=to_model(given.targets))  # as from a loader that pins memory
    DetectorLosses({}, augment=mirror)(model, plain.images, plain.targets)
    ((images, targets),) = model.calls
    assert torch.equal(images, given.images.flip(3) / 255)
    for one, other in zip(targets, given.targets, strict=True):
        left, top, right, bottom = other["boxes"].unbind(1)
        mirrored = torch.stack([SIZE - right, top, SIZE - left, bottom], 1)
        assert torch.equal(one["boxes"], mirrored)
        assert torch.equal(one["masks"], other["masks"].flip(2))


def test_batches_of_several_sizes_are_not_augmented_as_one() -> None:
    given = batch()
    losses = DetectorLosses({}, augment=transforms.build(["horizontal_flip"]))
    with pytest.raises(ArgumentError, match=r"data\.augment_batch needs images of one size"):
        losses(Notes(), list(given.images), given.targets)


def test_a_batch_in_parts_has_the_same_gradient_and_losses() -> None:
    fabric, blocks = launched("float32"), Augmented(Blocks("train"), None)
    recipe = Recipe(data=Data("blocks"), model=Model("notes"), batch_size=6)
    given = next(iter(assemble.loader_of(fabric, recipe, Sets(blocks, blocks, blocks, None))))
    found = []
    for parts in (1, 4, 6):
        model = fabric.setup(Notes())
        losses = forward_backward(fabric, model, given, DetectorLosses({}), parts)
        found.append((losses, float(next(model.parameters()).grad)))
    for losses, gradient in found[1:]:
        assert gradient == pytest.approx(found[0][1], rel=1e-6)
        assert {n: float(v) for n, v in losses.items()} == pytest.approx(
            {n: float(v) for n, v in found[0][0].items()}, rel=1e-6
        )
