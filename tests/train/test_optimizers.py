"""What is asked of torch's optimisers beside what a recipe says."""

import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.train.optimizers import build
from cvperf.train.recipe import Optimizer


def made(name: str, **options) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    return build(Optimizer(name, lr=0.01, options=options), torch.nn.Linear(5, 3))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad"])
def test_one_kernel_moves_all_weights_where_torch_has_one(name):
    assert made(name).defaults["fused"]


@pytest.mark.parametrize("options", [{"fused": False}, {"foreach": True}])
def test_an_option_that_excludes_it_is_obeyed(options):
    assert not made("adamw", **options).defaults["fused"]


def test_others_are_as_torch_has_them():
    assert "fused" not in made("rmsprop").defaults


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weights_move_as_without(name):
    moved = []
    for fused in (True, False):
        optimizer = made(name, fused=fused, weight_decay=0.1)
        weight = optimizer.param_groups[0]["params"][0]
        for step in range(5):
            weight.grad = torch.sin(torch.arange(15.0).view(3, 5) + step)
            optimizer.step()
        moved.append(weight.detach())
    torch.testing.assert_close(*moved)


def test_an_unknown_option_is_told():
    with pytest.raises(ArgumentError, match=r"optimizer 'adamw'.*momentumm"):
        made("adamw", momentumm=0.9)
