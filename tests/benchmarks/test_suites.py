"""The suites list cases that exist, and the command finds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvperf.bench import results
from cvperf.bench.peers.ours import OURS
from cvperf.bench.runner import answers_agree
from cvperf.benchmarks import command
from cvperf.benchmarks.suites import SUITES
from cvperf.benchmarks.suites.training import BoxHead


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_a_quick_subset_of_named_cases(suite: str) -> None:
    every, quick = (SUITES[suite](fast, "cpu") for fast in (False, True))
    names = [(shape.subject, shape.name) for shape in every]
    assert len(set(names)) == len(names)
    assert {(shape.subject, shape.name) for shape in quick} <= set(names)
    assert 0 < len(quick) <= len(every)


def test_ours_is_right_on_the_tiny_calls() -> None:
    for shape in SUITES["overhead"](True, "cpu"):
        problem = shape.problem()
        right, error = answers_agree(problem, OURS.contender(problem))
        assert right, (shape, error, problem.tolerance)


def test_the_box_head_needs_the_gradient_of_roi_align() -> None:
    head = BoxHead(channels=4, classes=3)
    boxes = torch.tensor([[0.0, 4, 4, 60, 60]])
    head(torch.rand(1, 4, 20, 20), boxes, torch.tensor([1])).backward()
    assert head.pyramid.weight.grad is not None
    assert head.pyramid.weight.grad.abs().max() > 0


def test_a_run_writes_its_rows_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nms.jsonl"
    code = command.run(
        "kernels", out, ops=["nms"], case="100 clustered", peers="torchvision,opencv", quick=True
    )
    assert code == 0
    rows = results.read(out)
    assert {row.suite for row in rows} == {"peaks", "kernels"}
    by_name = {row.contender: row for row in rows if row.suite == "kernels"}
    assert set(by_name) == {"cvperf", "torchvision", "opencv"}
    assert by_name["cvperf"].status == by_name["torchvision"].status == "ok"
    assert by_name["cvperf"].roofline_share is not None
    assert "--op nms --case '100 clustered'" in by_name["cvperf"].command
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "--device must be cpu or cuda, got 'tpu'"),
        ({"ops": ["nsm"]}, "kernels has no op nsm; it has: batched_nms, bias_activation, conv2d, "),
        ({"case": "100 clusterd"}, "no case is called '100 clusterd'; near it: 100 clustered"),
        ({"peers": "torch,cudn"}, "no peer is called cudn; known: "),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        command.run("kernels", tmp_path / "x.jsonl", **change)  # type: ignore[arg-type]


def test_cuda_without_a_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda needs a GPU that torch can use"):
        command.run("kernels", tmp_path / "x.jsonl", device="cuda")
