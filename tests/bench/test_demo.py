"""The demo compares, times and reports; here on small made-up cases, without a network."""

from __future__ import annotations

import json
import math
import re
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cvperf
from cvperf import files
from cvperf.bench import timing
from cvperf.bench.demo import cases, operations, report, run_demo, runner
from cvperf.bench.demo.agreement import (
    Agreement,
    Detections,
    same_classes,
    same_detections,
    same_integers,
    same_values,
)
from cvperf.bench.demo.case import Case, Picture, Result, Work, fallbacks
from cvperf.bench.timing import Timing
from cvperf.dropin.ledger import Row


def make_result(
    name: str = "sample",
    torch_ms: tuple[float, ...] = (10.0, 11.0, 12.0),
    cvperf_ms: tuple[float, ...] = (5.0, 5.5, 6.0),
    same: bool = True,
    **changes: object,
) -> Result:
    from PIL import Image

    case = Case(name, f"{name} <title>", "random weights", "A grey square.", lambda: never())
    picture = Picture("grey & square", Image.new("RGB", (32, 24), "grey"))
    parts: dict[str, object] = {
        "agreement": Agreement(same, 1e-7, "values", "" if same else "2 of 9 boxes differ"),
        "calls": (Row("torchvision::nms", 3, "cvperf.cpu", "served"),),
        "pictures": (picture,),
    }
    return Result(case, Timing(torch_ms), Timing(cvperf_ms), **(parts | changes))  # type: ignore[arg-type]


def never() -> Work:
    raise AssertionError("this case is only shown, not run")


def found(*boxes: tuple[float, ...], label: str = "face") -> Detections:
    tensor = torch.tensor(boxes).reshape(-1, 4)
    return Detections(tensor, torch.ones(len(boxes)), (label,) * len(boxes))


BOX, FAR = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def test_boxes_that_swapped_places_are_the_same() -> None:
    agreement = same_detections([found(BOX, FAR)], [found(FAR, BOX)])
    assert agreement.same
    assert agreement.error == 0


@pytest.mark.parametrize(
    "after",
    [
        found(BOX),
        found(BOX, FAR, FAR),
        found(BOX, BOX),
        found(BOX, (50.0, 50.0, 60.0, 61.0)),
        found(BOX, FAR, label="cat"),
        found(),
    ],
    ids=["lost", "extra", "used twice", "moved", "relabelled", "none"],
)
def test_different_boxes_are_told_apart(after: Detections) -> None:
    agreement = same_detections([found(BOX, FAR)], [after])
    assert not agreement.same
    assert "boxes" in agreement.detail


def test_values_agree_relative_to_the_largest() -> None:
    before = torch.tensor([1000.0, 1.0])
    assert same_values(before, before + 0.01).same
    assert not same_values(before, before + 1.0).same
    assert not same_values(before, before[:1]).same
    assert not same_values(before, before * math.nan).same


def test_integers_agree_only_when_equal() -> None:
    assert same_integers(torch.arange(3), torch.arange(3)).same
    assert not same_integers(torch.arange(3), torch.arange(4)).same
    assert not same_integers(torch.arange(3), torch.arange(3).flip(0)).same


def test_labels_agree_when_the_winners_do() -> None:
    logits = torch.tensor([[0.0, 1.0], [3.0, 2.0]])
    assert same_classes(logits, logits + 1e-3).same
    changed = same_classes(logits, logits.flip(1))
    assert changed.detail == "2 of 2 labels changed"


def test_overlapping_ranges_are_no_difference() -> None:
    assert make_result().pace == "faster"
    assert make_result(cvperf_ms=(5.0, 6.0, 10.5)).pace == "even"
    assert make_result(cvperf_ms=(13.0, 14.0, 15.0)).pace == "slower"
    assert make_result(torch_ms=(10.0, 11.0), cvperf_ms=(5.0, 6.0)).pace == "even"
    assert make_result().ratio == pytest.approx(2.0)


def test_fallback_is_counted_for_each_op_with_its_reason() -> None:
    rows = (
        Row("aten::convolution", 41, "cvperf.cpu", "served"),
        Row("aten::convolution", 12, "original", "the map is small"),
        Row("torchvision::nms", 6, "cvperf.cpu", "served"),
    )
    assert fallbacks(rows) == ["convolution: 12 of 53 calls ran on the original: the map is small"]


def test_exit_code_and_verdict_follow_the_answers_not_the_speed() -> None:
    good = [make_result("a"), make_result("b", cvperf_ms=(20.0, 21.0, 22.0))]
    assert report.exit_code(good) == 0
    assert report.verdict(good).startswith("PASSED")
    assert "1 slower (b)" in report.verdict(good)
    bad = [*good, make_result("c", same=False)]
    assert report.exit_code(bad) == 1
    assert report.verdict(bad) == "FAILED: with cvperf the answer differs in c"


def test_page_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    report.write(tmp_path, [make_result(), make_result("b", same=False)], 3, complete=True)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    addresses = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?([^"'\s>)]+)""", page)
    assert addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert "//" not in re.sub(r"data:image/jpeg;base64,[^\"]+", "", page)
    assert "@import" not in page
    assert "<script" not in page


def test_page_shows_the_results_escaped(tmp_path: Path) -> None:
    fell = (Row("torchvision::nms", 3, "original", "boxes < 100"),)
    results = [make_result(), make_result("b", same=False, calls=fell)]
    report.write(tmp_path, results, repeats=5, complete=False)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for text in (
        "sample &lt;title&gt;",
        "FAILED: with cvperf the answer differs in b",
        "2 of 9 boxes differ",
        "nms: 3 of 3 calls ran on the original: boxes &lt; 100",
        "grey &amp; square",
        "random weights",
        "prefers-color-scheme: dark",
        "cvperf bench demo --only sample --only b --repeats 5",
        torch.__version__,
    ):
        assert text in page, text


def test_json_lines_hold_one_record_a_case(tmp_path: Path) -> None:
    lost = Agreement(False, math.nan, "values", "shapes differ")
    report.write(tmp_path, [make_result(), make_result("b", agreement=lost)], 3, complete=True)
    lines = (tmp_path / "demo.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["ratio"] == pytest.approx(2.0)
    assert first["spread"]["torch_ms"] == [10.0, 11.0, 12.0]
    assert first["environment"]["torch"] == torch.__version__
    assert second["max_error"] is None
    assert not second["same"]


def test_interrupted_write_keeps_the_old_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")

    def killed(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.replace(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]
    assert path.read_text() == "old"


def test_terminal_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    slow = (123456.0, 234567.0, 345678.0)
    results = [make_result(case.title, slow, slow) for case in cases.CASES]
    Console(width=80).print(report.table(results))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "123,456-345,678" in printed


class FakeUse:
    """Stands in for cvperf.use: says whether the block is open, as an override would."""

    def __init__(self) -> None:
        self.open = False

    def use(self, *names: str) -> AbstractContextManager[None]:
        assert names == runner.OVERRIDDEN
        return self

    def __enter__(self) -> None:
        self.open = True

    def __exit__(self, *error: object) -> None:
        self.open = False


def run_tiny(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: bool
) -> tuple[int, list[bool]]:
    """Run the demo on one tiny case, whose answer changes inside ``use`` when ``wrong``."""
    fake = FakeUse()
    served = Row("aten::convolution", 1, "cvperf.cpu", "served")
    monkeypatch.setattr(cvperf, "use", fake.use)
    monkeypatch.setattr(cvperf, "explain", lambda reset: SimpleNamespace(rows=(served,)))
    monkeypatch.setattr(runner, "SAMPLE_S", 0.0)
    monkeypatch.setattr(timing, "_LONG_S", 0.0)  # no warm-up beyond the first call
    seen = []

    def work() -> torch.Tensor:
        seen.append(fake.open)
        return torch.full((4,), 2.0 if wrong and fake.open else 1.0)

    case = Case("tiny", "tiny", "ones", "Nothing.", lambda: Work(work, same_values))
    monkeypatch.setattr(cases, "CASES", (case,))
    return run_demo(tmp_path / "report", repeats=2), seen


def test_demo_runs_with_and_without_in_turns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, inside = run_tiny(monkeypatch, tmp_path, wrong=False)
    assert code == 0
    # The answers, the warm-ups, then two rounds in an order drawn anew.
    assert inside[:4] == [False, True, False, True]
    assert sorted(inside[4:6]) == sorted(inside[6:]) == [False, True]
    assert (tmp_path / "report/index.html").is_file()
    assert capsys.readouterr().out.splitlines()[-1].startswith("PASSED")


def test_demo_fails_when_an_answer_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run_tiny(monkeypatch, tmp_path, wrong=True)
    assert code == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAILED")


def test_unknown_case_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no case nsm; known: mobilenet_v2"):
        cases.select(["nsm"])
    assert [case.name for case in cases.select(["nms", "mtcnn"])] == ["mtcnn", "nms"]


def test_repeats_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        run_demo(repeats=0)


def test_proposals_look_like_a_detectors() -> None:
    boxes, scores = operations.proposals(objects=20, each=50)
    assert boxes.shape == (1000, 4)
    assert scores.shape == (1000,)
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 800
    assert len(scores.unique()) > 900


def test_labels_and_boxes_are_drawn() -> None:
    from PIL import Image

    from cvperf.bench.demo.pictures import draw_boxes, draw_label

    photo = Image.new("RGB", (64, 48), "white")
    degenerate = (5.0, 5.0, 5.0, 5.0)
    for drawn in (
        draw_label(photo, "a long label " * 5),
        draw_boxes(photo, found(BOX, degenerate)),
    ):
        assert drawn.size == (640, 480)
        assert drawn.getextrema()[0][0] < 100  # ink on the white ground
    assert photo.getextrema() == ((255, 255),) * 3
