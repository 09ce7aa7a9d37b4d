"""A made-up run of training, for the tests of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cvperf.eval import Reliability
from cvperf.train import report
from cvperf.train.report import Mistake

NAMES = ("cat", "dog", "<i>eel</i>")


def epoch(number: int, **validation: float) -> dict[str, Any]:
    return {
        "epoch": number,
        "step": 10 * number,
        "seconds": 1.5,
        "lr": 0.1 / number,
        "train": {"loss": 2.0 / number},
        "validation": validation,
    }


def arguments(**changed: Any) -> dict[str, Any]:
    """Those of ``write``, with some changed."""
    whole: dict[str, Any] = {
        "history": [
            epoch(1, loss=1.9, accuracy=0.5, **{"recall/cat": 0.4}),
            epoch(2, loss=1.1, accuracy=0.9, **{"recall/cat": 0.7}),
            epoch(3, loss=1.2, accuracy=0.8, **{"recall/cat": 0.6}),
        ],
        "final": {"accuracy": 0.9123, "ece": 0.05, "recall/cat": 0.7, "recall/<i>eel</i>": 0.8},
        "classes": NAMES,
        "confusion": torch.tensor([[7, 3, 0], [0, 0, 0], [1, 1, 8]]),
        "mistakes": [Mistake(torch.zeros(1, 8, 8, dtype=torch.uint8), "cat", "<i>eel</i>", 3.5)],
        "explain": "conv2d  12  cpu  <faster>",
        "environment": {"cpu": "a <processor>", "torch": "2.14"},
        "command": "cvperf train 'a & b'",
        "reliability": Reliability(
            torch.tensor([float("nan"), 0.9]), torch.tensor([float("nan"), 0.8]),
            torch.tensor([0.0, 20.0]),
        ),
    }  # fmt: skip
    return whole | changed


def written(folder: Path, **changed: Any) -> str:
    """The page of such a run."""
    return report.write(folder, **arguments(**changed)).read_text()
