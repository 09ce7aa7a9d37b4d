"""The tasks by name."""

from __future__ import annotations

from collections.abc import Mapping

from cvperf.errors import ArgumentError, did_you_mean
from cvperf.train.recipe import Recipe
from cvperf.train.tasks import classification, detection
from cvperf.train.tasks.base import Task

TASKS: Mapping[str, Task] = {"classification": classification, "detection": detection}


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe.

    Raises:
        ArgumentError: there is none of this name, or it cannot do what a section asks for.
    """
    if recipe.task not in TASKS:
        hint = did_you_mean(recipe.task, TASKS) or "."
        raise ArgumentError(f"unknown task {recipe.task!r}{hint} Known: {', '.join(TASKS)}")
    task = TASKS[recipe.task]
    task.check(recipe)
    return task
