"""Two processes train one detector and judge it by half of the images each."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvperf.data.sets import SETS
from cvperf.train import finished
from cvperf.train.distributed import launch
from tests.train.detection.blocks import Blocks

import detector_of_two  # isort: skip


@pytest.mark.usefixtures("one_thread")
def test_figures_are_those_of_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = launch.run(detector_of_two.detected, 2, tmp_path, timeout_s=240)
    assert first == second
    assert "mask_ap50" in first
    monkeypatch.setitem(SETS, "blocks", Blocks)
    assert finished.evaluate(tmp_path) == pytest.approx(first, abs=1e-6)
