"""The race of training steps: both learn the same, and a difference is an error."""

import pytest
import torch

from cvperf.benchmarks import detector_step
from cvperf.models.detection import create_detector

pytestmark = pytest.mark.usefixtures("one_thread")


def small(side: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Two that are the same: that ours learns as torchvision's is tested with the models."""
    theirs, ours = (create_detector("mask-rcnn", 11, resize={"min_size": side}) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    return theirs.train(), ours.train()


def test_the_first_step_of_both_has_the_same_losses(monkeypatch, capsys):
    monkeypatch.setattr(detector_step, "models", small)
    arguments = ["--images", "2", "--side", "64", "--rounds", "1", "--threads", "1"]
    assert detector_step.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Mask R-CNN, a step of 2 at 64x64" in printed
    assert "torchvision, channels-last" in printed
    assert "losses of the first step within" in printed


def test_other_losses_end_it_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(detector_step, "race", lambda *_: ([detector_step.Timing((1.0,))] * 3, 0.2))
    assert detector_step.main(["--threads", "1"]) == 1
    assert "within 2.0e-01" in capsys.readouterr().out


def test_the_furthest_loss_counts():
    found = detector_step.furthest({"a": 1.01, "b": 4.0}, {"a": 1.0, "b": 2.0})
    assert found == pytest.approx(1.0)


def test_a_count_below_one_is_refused(capsys):
    with pytest.raises(SystemExit):
        detector_step.main(["--rounds", "0"])
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
