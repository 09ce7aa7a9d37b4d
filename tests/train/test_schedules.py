"""The learning rate over a run."""

import math

import pytest
import torch

from cvperf.errors import ArgumentError
from cvperf.train import schedules
from cvperf.train.recipe import Schedule


def rates(config, steps, epochs, *, stuck=()):
    """The rate of each step, and of each epoch's end, for a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedules.by_step(config, optimizer, steps, epochs)
    found = []
    for epoch in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        schedules.after_epoch(config, schedule, epoch + 1 if epoch in stuck else 0)
    return found


def test_cosine_rises_in_the_warmup_and_falls_to_the_last_share():
    found = rates(Schedule("cosine", warmup=1, last=0.1), steps=10, epochs=5)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[9:] == sorted(found[9:], reverse=True)
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    assert found[29] == pytest.approx(middle)
    assert found[-1] == pytest.approx(0.1)


def test_linear_falls_by_the_same_each_step():
    found = rates(Schedule("linear"), steps=4, epochs=2)
    assert found == pytest.approx([7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0])


def test_step_multiplies_at_its_milestones():
    config = Schedule("step", milestones=[1, 2], factor=0.1)
    assert rates(config, steps=2, epochs=3) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.01])


def test_plateau_multiplies_when_epochs_bring_nothing():
    config = Schedule("plateau", factor=0.5, patience=2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedules.by_step(config, optimizer, 1, 10)
    found = []
    for since in (0, 1, 2, 3, 4, 0):
        schedules.after_epoch(config, schedule, since)
        optimizer.step()
        schedule.step()
        found.append(schedule.get_last_lr()[0])
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_an_unknown_curve_names_the_known_ones():
    with pytest.raises(ArgumentError, match="cosine, linear, step"):
        rates(Schedule("cosin"), 1, 1)
