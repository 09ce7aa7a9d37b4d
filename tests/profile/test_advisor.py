"""The advisor: the drop-in's own rule on recorded calls, and the ledger's ratios."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.bench import results
from cvperf.bench.problems.base import Shape
from cvperf.bench.problems.conv2d import ConvolutionShape, InputGradShape, WeightGradShape
from cvperf.bench.problems.nms import NmsShape
from cvperf.bench.problems.roi_align import RoiAlignShape
from cvperf.bench.results import Measurement
from cvperf.profiler import advisor, profile, speedups
from cvperf.profiler.speedups import Speedups
from cvperf.profiler.tables import Call
from cvperf.profiler.trace import Arguments

Row = Callable[..., Measurement]


def ledger(path: Path, rows: list[Measurement]) -> Speedups:
    with results.writer(path) as file:
        for row in rows:
            file.write(row)
    return speedups.load(path)


def raced(row: Row, shape: Shape, torch_ms: float, ours_ms: float) -> list[Measurement]:
    original = "torch" if shape.op.startswith("conv") else "torchvision"
    return [row(shape, original, torch_ms), row(shape, "cvperf", ours_ms)]


def nms_of(boxes: int) -> NmsShape:
    return NmsShape(name=f"{boxes} clustered", boxes=boxes, arrangement="clustered")


def nms_call(boxes: int, *us: float) -> Call:
    arguments = Arguments(
        [[boxes, 4], [boxes], []], ["float", "float", "Scalar"], [[4, 1], [1], []], ["", "", "0.5"]
    )
    return Call("torchvision::nms", arguments, "cpu", (nms_of(boxes),), [], list(us), ["net"])


def test_the_saving_is_the_measured_time_less_that_time_over_the_ratio(
    row: Row, tmp_path: Path
) -> None:
    known = ledger(tmp_path / "l.jsonl", raced(row, nms_of(1000), 8.0, 2.0))
    advice = advisor.advise([nms_call(1000, 3000.0, 1000.0)], wall_ms=10.0, speedups=known)
    (line,) = advice.lines
    assert (line.served_calls, line.calls, line.served_ms) == (2, 2, 4.0)
    assert line.ratio == pytest.approx(4.0)
    assert advice.saving_ms == pytest.approx(4.0 * (1 - 1 / 4.0))
    assert advice.share == pytest.approx(0.3)
    assert advice.names == ("nms",)
    assert 'with cvperf.use("nms"):' in advice.code


def test_between_two_shapes_the_ratio_is_their_mean_by_nearness(row: Row, tmp_path: Path) -> None:
    rows = raced(row, nms_of(1000), 2.0, 1.0) + raced(row, nms_of(4000), 8.0, 1.0)
    known = ledger(tmp_path / "l.jsonl", rows)
    middle = known.ratio(nms_of(2000))  # one doubling from either
    assert middle is not None
    assert middle.value == pytest.approx(4.0)  # the geometric mean of 2 and 8
    assert middle.distance == pytest.approx(1.0)
    assert set(middle.cases) == {"1000 clustered", "4000 clustered"}
    same = known.ratio(nms_of(4000))
    assert same is not None
    assert (same.value, same.cases) == (pytest.approx(8.0), ("4000 clustered",))


def test_the_drop_in_s_row_counts_where_there_is_one(row: Row, tmp_path: Path) -> None:
    shape = ConvolutionShape(name="c", n=1, c=8, h=8, w=8, o=8, kernel=(3, 3), activation="relu")
    rows = [*raced(row, shape, 3.0, 1.0), row(shape, "cvperf drop-in", 2.0)]
    found = ledger(tmp_path / "l.jsonl", rows).ratio(shape)
    assert found is not None
    assert found.value == pytest.approx(1.5)  # the activation is a pass of its own there


def test_only_rows_of_the_same_dtype_layout_and_kind_count(row: Row, tmp_path: Path) -> None:
    shape = ConvolutionShape(name="c", n=1, c=8, h=8, w=8, o=8, kernel=(3, 3))
    known = ledger(tmp_path / "l.jsonl", raced(row, shape, 2.0, 1.0))
    assert known.ratio(shape) is not None
    for other in ({"dtype": "bfloat16"}, {"layout": "contiguous"}, {"kernel": (1, 1)},
                  {"groups": 8}):  # fmt: skip
        assert known.ratio(ConvolutionShape(**{**vars(shape), **other})) is None


def test_the_drop_in_s_own_cost_is_taken_off(row: Row, tmp_path: Path) -> None:
    tiny = ConvolutionShape(name="tiny", n=1, c=8, h=4, w=4, o=8, kernel=(1, 1))
    overhead = [("torch", 0.010), ("cvperf drop-in", 0.030)]
    rows = raced(row, nms_of(1000), 2.0, 1.0)
    rows += [row(tiny, name, ms, suite="overhead") for name, ms in overhead]
    rows += [row(nms_of(10), "cvperf", 0.010, suite="overhead")]
    rows += [row(nms_of(10), "cvperf drop-in", 0.015, suite="overhead")]
    known = ledger(tmp_path / "l.jsonl", rows)
    assert (known.refused_us, known.served_us) == (pytest.approx(20), pytest.approx(5))
    advice = advisor.advise([nms_call(1000, 4000.0)], 10.0, known)
    assert advice.saving_ms == pytest.approx(2.0 - 0.005)
    assert not advice.notes


def test_without_overhead_rows_the_advice_says_that_it_counts_none(
    row: Row, tmp_path: Path
) -> None:
    known = ledger(tmp_path / "l.jsonl", raced(row, nms_of(1000), 2.0, 1.0))
    assert any("own cost is taken as 0" in note for note in known.notes)


def test_what_gets_slower_is_not_advised(row: Row, tmp_path: Path) -> None:
    known = ledger(tmp_path / "l.jsonl", raced(row, nms_of(1000), 1.0, 2.0))
    advice = advisor.advise([nms_call(1000, 1000.0)], 10.0, known)
    assert advice.lines[0].saving_ms == pytest.approx(-1.0)
    assert (advice.names, advice.saving_ms, advice.code) == ((), 0, "")


def test_a_convolution_s_two_gradients_count_by_their_time(row: Row, tmp_path: Path) -> None:
    numbers = {"n": 1, "c": 8, "h": 8, "w": 8, "o": 8, "kernel": (3, 3), "dtype": "bfloat16"}
    image, weight = InputGradShape(name="i", **numbers), WeightGradShape(name="w", **numbers)
    known = ledger(tmp_path / "l.jsonl", raced(row, image, 2, 1) + raced(row, weight, 8, 2))
    conv = nn.Conv2d(8, 8, 3, padding=1).to(torch.bfloat16, memory_format=torch.channels_last)
    x = torch.rand(1, 8, 8, 8, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    with profile() as p:
        conv(x.requires_grad_()).sum().backward()
    (call,) = [call for call in p.calls if call.op == "aten::convolution_backward"]
    (line,) = advisor.advise([call], 10.0, known).lines
    if line.served:
        assert line.ratio == pytest.approx(2 / (1 / 2 + 1 / 4))
    else:  # the drop-in's rule, which is tested on its own, keeps this call
        assert line.reasons


def test_a_difference_within_noise_is_none(row: Row, tmp_path: Path) -> None:
    shape = nms_of(1000)
    noisy = [
        row(shape, "torchvision", 1.1, p20_ms=0.9, p80_ms=1.3),
        row(shape, "cvperf", 1.0, p20_ms=0.95, p80_ms=1.2),
    ]
    ratio = ledger(tmp_path / "noisy.jsonl", noisy).ratio(shape)
    assert ratio is not None
    assert ratio.value == 1.0
    clear = [noisy[0], row(shape, "cvperf", 0.8, p20_ms=0.7, p80_ms=0.85)]
    ratio = ledger(tmp_path / "clear.jsonl", clear).ratio(shape)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.1 / 0.8)


def test_far_shapes_are_called_a_guess(row: Row, tmp_path: Path) -> None:
    known = ledger(tmp_path / "l.jsonl", raced(row, nms_of(100_000), 2.0, 1.0))
    advice = advisor.advise([nms_call(100, 1000.0)], 10.0, known)
    assert any("guess" in note for note in advice.notes)


def test_a_served_call_without_a_row_saves_nothing_and_is_named(row: Row, tmp_path: Path) -> None:
    roi = RoiAlignShape(
        name="r", n=1, c=8, h=8, w=8, boxes=4, output_size=(2, 2), spatial_scale=0.5
    )
    known = ledger(tmp_path / "l.jsonl", raced(row, roi, 2.0, 1.0))
    advice = advisor.advise([nms_call(1000, 1000.0)], 10.0, known)
    assert advice.saving_ms == 0
    assert any("NMS: 1.0 ms of served calls have no row" in note for note in advice.notes)


def test_without_rows_of_this_machine_it_says_how_to_make_them(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    known = speedups.load(tmp_path / "empty.jsonl")
    assert "cvperf bench kernels --quick --out" in known.about
    advice = advisor.advise([nms_call(1000, 1000.0)], 10.0, known)
    assert (advice.names, advice.ledger) == ((), known.about)


def test_rows_of_this_processor_and_thread_count_come_first(row: Row, tmp_path: Path) -> None:
    mine = raced(row, nms_of(1000), 2.0, 1.0)
    facts = dict(mine[0].environment)
    others = [
        row(nms_of(1000), name, ms, environment={**facts, **changes})
        for changes in ({"threads": "97"}, {"cpu": "Z80"}, {"isa": "mmx"})
        for name, ms in (("torchvision", 9.0), ("cvperf", 1.0))
    ]
    known = ledger(tmp_path / "all.jsonl", others + mine)
    assert [pair.ratio for pair in known.pairs] == [2.0]
    assert "of this processor" in known.about
    same_set = ledger(tmp_path / "other.jsonl", others[2:])
    assert "another processor with" in same_set.about
    foreign = ledger(tmp_path / "foreign.jsonl", others[4:])
    assert "another machine" in foreign.about


def test_it_decides_as_the_drop_in_then_does(model: nn.Module, image: Tensor) -> None:
    halves = nn.Conv2d(16, 16, 3).to(torch.float16)

    def run() -> None:
        model(image)
        halves(torch.rand(1, 16, 12, 12, dtype=torch.float16))

    with profile() as p, torch.inference_mode():
        run()
    cvperf.explain(reset=True)
    with cvperf.use("nms", "roi_align", "conv2d"), torch.inference_mode():
        run()
    ran = {
        (row.op, row.reason if row.backend == "original" else None): row.calls
        for row in cvperf.explain(reset=True).rows
        if row.calls
    }
    advised: dict[tuple[str, str | None], int] = {}
    for line in p.advice.lines:
        for verdict in line.verdicts:
            key = (verdict.call.op, verdict.refusal)
            advised[key] = advised.get(key, 0) + len(verdict.call.us)
    assert advised == ran
