"""Which values of a recipe's keys give the best validation figure: a search by Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvperf.errors import ArgumentError
from cvperf.train import catalogue
from cvperf.train.loop import Observer, Run
from cvperf.train.run import train


@dataclass(frozen=True)
class Range:
    """Values that a key may take: ``choices``, or numbers from ``low`` to ``high``."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def suggest(self, trial: Any) -> str:
        """One of them, as text after the key."""
        if self.choices:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.low.is_integer() and self.high.is_integer() and self.high > 1:
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log))
        return str(trial.suggest_float(self.key, self.low, self.high, log=self.log))


def parse(text: str) -> Range | str:
    """``key=a|b|c``, ``key=1e-3..1e-1`` or ``key=1e-3..1e-1:log``; any other is a fixed change.

    Raises:
        ArgumentError: it is no ``key=value``, or a range is empty.
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ArgumentError(f"{text!r} is no key=value")
    if "|" in value:
        return Range(key, tuple(value.split("|")))
    if ".." not in value:
        return text
    numbers, _, scale = value.partition(":")
    low, _, high = numbers.partition("..")
    try:
        found = Range(key, (), float(low), float(high), scale == "log")
    except ValueError as error:
        raise ArgumentError(f"{text!r}: a range is low..high, or low..high:log") from error
    if scale not in ("", "log") or found.low >= found.high or (found.log and found.low <= 0):
        raise ArgumentError(f"{text!r}: a range is low..high, or low..high:log with low above 0")
    return found


def tune(
    name: str, changes: Sequence[str], trials: int, folder: Path
) -> tuple[float, Mapping[str, Any]]:
    """Train the recipe with values from the ranges, and stop those that fall behind.

    The search is kept in ``folder/study.db`` after each trial: the same call goes on with it.

    Args:
        name: of the recipe, or a path to one.
        changes: ``key=value``, of which some are ranges (:func:`parse`).
        trials: how many in all.
        folder: of the search; each trial's run is in ``folder/trial-<n>``.

    Returns:
        The best figure, and the values that gave it.

    Source: Akiba et al., "Optuna", KDD 2019; its sampler is a tree-structured Parzen estimator, its
    pruner compares with the median of the trials before at the same epoch.
    """
    import optuna

    parsed = [parse(change) for change in changes]
    ranges = [one for one in parsed if isinstance(one, Range)]
    fixed = [one for one in parsed if isinstance(one, str)]
    if not ranges:
        raise ArgumentError("nothing to search: give a range, such as optimizer.lr=0.01..0.3:log")
    watch = catalogue.load(name, fixed).watch
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=str(name),
        direction="maximize" if watch.highest else "minimize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        load_if_exists=True,
    )

    def figure(trial: Any) -> float:
        chosen = [f"{one.key}={one.suggest(trial)}" for one in ranges]
        recipe = catalogue.load(name, [*fixed, *chosen])
        path = folder / f"trial-{trial.number}"
        train(recipe, str(name), path, (_Pruner(trial, watch.figure),))
        best: float = trial.user_attrs["best"]
        return best

    study.optimize(figure, n_trials=max(0, trials - len(study.trials)))
    return study.best_value, study.best_params


class _Pruner(Observer):
    """Tells Optuna each epoch's figure, and ends a trial that it gives up."""

    def __init__(self, trial: Any, figure: str) -> None:
        self._trial, self._figure = trial, figure

    def epoch_done(self, run: Run, best: bool) -> None:
        import optuna

        self._trial.report(run.history[-1]["validation"][self._figure], run.epoch)
        self._trial.set_user_attr("best", run.best.value)
        if self._trial.should_prune():
            raise optuna.TrialPruned
