"""``report.html``: what a training run did, on one page that needs no network."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cvperf import files
from cvperf.errors import ArgumentError, describe
from cvperf.page import templates
from cvperf.train.report import confusion as matrices
from cvperf.train.report import curves, scenes, tables
from cvperf.train.report.pictures import Mistake, data_url
from cvperf.train.report.scenes import Mark, Scene

if TYPE_CHECKING:
    from cvperf.eval import Reliability

__all__ = ["Mark", "Mistake", "Scene", "write"]


def write(
    folder: Path,
    *,
    history: Sequence[Mapping[str, Any]],
    final: Mapping[str, float],
    classes: Sequence[str],
    confusion: Tensor | None,
    mistakes: Sequence[Mistake],
    explain: str,
    environment: Mapping[str, str],
    command: str,
    reliability: Reliability | None = None,
    pictures: Sequence[Scene] = (),
    watched: str = "",
    highest: bool = True,
) -> Path:
    """Write ``report.html`` into the folder of a run; it appears whole or not at all.

    Args:
        folder: made if it is not there.
        history: an epoch each: {"epoch": 3, "lr": 0.01, "train": {"loss": ...}, "validation":
            {...}}; everything but "epoch" may be missing.
        final: the figures of the finished model. A name such as "recall/cat", with a class after
            the slash, is a figure of that class.
        classes: their names; empty for regression.
        confusion: int64 [classes, classes], truth by answer, or None.
        mistakes: the worst errors, worst first.
        explain: the text of ``cvperf.explain()``.
        environment: facts, as ``cvperf.environment.collect`` gives.
        command: what repeats the run.
        reliability: of ``cvperf.eval.Classification``, or None.
        pictures: with what a detector found in them.
        watched: the figure that told the best epoch.
        highest: whether more of that is better.

    Returns:
        The path of the page.

    Raises:
        ArgumentError: the confusion matrix does not fit the classes, or an image is not uint8
            [1 or 3, H, W].
        ImportError: jinja2, matplotlib or pillow is not installed.
    """
    matrix = None
    if confusion is not None:
        if confusion.shape != (len(classes), len(classes)):
            raise ArgumentError(
                f"confusion must be [{len(classes)}, {len(classes)}] for {len(classes)} classes, "
                f"got {describe(confusion)}"
            )
        matrix = matrices.draw(confusion.tolist(), classes)
    plots = curves.draw(history)
    calibration = curves.reliability(reliability, final.get("ece")) if reliability else None
    page = templates("cvperf.train.report")
    page.filters |= {"figure": tables.figure, "data_url": data_url}
    html = page.get_template("training.html.j2").render(
        name=folder.resolve().name,
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        headline=tables.headline(history, final, watched, highest),
        plots=plots,
        calibration=calibration,
        final=tables.overall(final, classes),
        per_class=tables.per_class(final, classes, matrix),
        matrix=matrix,
        mistakes=mistakes,
        pictures=pictures,
        kinds=scenes.kinds(pictures),
        explain=explain,
        environment=environment,
        command=command,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    files.replace(path, html)
    return path
