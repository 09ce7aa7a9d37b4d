"""Choosing on a GPU: measured crossovers, the default order, and where a call stands among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cvperf
from cvperf.backends import cuda, registry, triton
from cvperf.backends.gpu import choice, crossovers
from cvperf.backends.gpu.calls import PLACES, Place, kind_of_convolution
from cvperf.backends.gpu.choice import DEFAULT_ORDER, between
from cvperf.backends.gpu.crossovers import Crossover
from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import A100, B200, H100
from cvperf.backends.registry import UNMEASURED, Backend, Choice
from cvperf.bench.peers.ours import OURS
from cvperf.bench.problems.base import Shape
from cvperf.benchmarks import gpu_crossovers
from cvperf.benchmarks.suites import SUITES

LEDGER = Path(__file__).parents[2] / "benchmarks/results"


def line(size: float, *, wrong: dict[str, str] | None = None, **ms: float) -> Crossover:
    """NMS of float32 boxes on an H100, which takes the thread no time."""
    no_time = dict.fromkeys(ms, 0.0)
    return Crossover(
        "H100",
        90,
        "nms",
        "float32",
        "contiguous",
        "",
        f"{size:g} boxes",
        size,
        ms,
        no_time,
        wrong or {},
    )


def backend(name: str, op: str = "nms", answer: object = None) -> Backend:
    """Takes every call, and answers with its name."""
    return Backend(op, name, "cpu", (torch.float32,), ("contiguous",), lambda *args: answer or name)


def winner(boxes: int, *lines: Crossover, dtype: torch.dtype = torch.float32) -> Choice:
    """Who runs NMS of so many boxes on an H100."""
    both = between((backend("cuda"), backend("triton")))
    assert both.choose is not None
    with assuming(H100), choice.recording(lines):
        chosen = both.choose(torch.empty(boxes, 4, dtype=dtype), torch.empty(boxes), 0.5)
        if dtype == torch.float32:
            assert both.function(torch.empty(boxes, 4), torch.empty(boxes), 0.5) == chosen.backend
        return chosen


# --- the default order ----------------------------------------------------------------------------


def test_the_default_order_is_stated_for_every_op_that_a_gpu_backend_serves() -> None:
    assert set(DEFAULT_ORDER) == {row.op for row in (*cuda.SERVED, *triton.SERVED)}
    for op, orders in DEFAULT_ORDER.items():
        assert set(orders) == {80, 90, 100}, op
        for order in orders.values():
            assert order[0] == "original", op
            assert sorted(order[1:]) == ["cuda", "triton"], op


def test_without_a_measurement_the_default_order_decides_and_the_reason_says_so() -> None:
    assert winner(1000) == Choice("cuda", "by default order, not measured")


@pytest.mark.parametrize(("gpu", "first"), [(A100, "cuda"), (H100, "triton"), (B200, "triton")])
def test_the_default_order_is_that_of_the_architecture(gpu: Any, first: str) -> None:
    both = between((backend("cuda", "int4_linear"), backend("triton", "int4_linear")))
    assert both.choose is not None
    with assuming(gpu), choice.recording(()):
        chosen = both.choose(torch.empty(4, 32), torch.empty(8, 16), torch.empty(8, 1))
    assert chosen == Choice(first, UNMEASURED)


# --- measured -------------------------------------------------------------------------------------


def test_the_nearest_measured_size_decides_on_a_logarithmic_axis() -> None:
    lines = (line(100, cuda=1.0, triton=2.0), line(2000, cuda=2.0, triton=1.0))
    assert winner(440, *lines).backend == "cuda"
    assert winner(460, *lines).backend == "triton"  # though nearer to 100 in boxes
    assert winner(80, *lines).backend == "cuda"
    assert winner(5000, *lines).backend == "triton"


def test_the_reason_gives_architecture_size_and_times() -> None:
    reason = winner(150, line(100, cuda=0.02, triton=0.01)).reason
    assert reason == "measured on sm_90 at size 100: cuda 20 us, triton 10 us"


@pytest.mark.parametrize(
    ("boxes", "measured"), [(13, True), (12, False), (800, True), (801, False)]
)
def test_a_size_speaks_for_sizes_within_a_factor_of_eight(boxes: int, measured: bool) -> None:
    chosen = winner(boxes, line(100, cuda=2.0, triton=1.0))
    assert chosen.backend == ("triton" if measured else "cuda")
    assert (chosen.reason == UNMEASURED) is not measured


def test_no_boxes_stand_beside_one() -> None:
    assert winner(0, line(4, cuda=2.0, triton=1.0)).backend == "triton"
    assert winner(0, line(100, cuda=2.0, triton=1.0)).reason == UNMEASURED


@pytest.mark.parametrize(
    "other",
    [{"capability": 80}, {"dtype": "float16"}, {"layout": "channels_last"}, {"op": "soft_nms"}],
)
def test_lines_of_another_kind_of_call_say_nothing(other: dict[str, Any]) -> None:
    assert winner(100, replace(line(100, cuda=2.0, triton=1.0), **other)).reason == UNMEASURED


def test_cases_of_one_size_count_by_their_geometric_mean() -> None:
    lines = (line(100, cuda=1.0, triton=1.5), line(100, cuda=8.0, triton=2.0))
    assert winner(100, *lines).backend == "triton"


def test_a_case_that_one_contender_sat_out_is_no_comparison() -> None:
    lines = (line(100, triton=1.0), line(400, cuda=1.0, triton=2.0))
    assert winner(100, *lines).reason.startswith("measured on sm_90 at size 400: cuda")


def test_a_backend_that_was_wrong_is_left_out_at_every_size_and_the_reason_says_why() -> None:
    lines = (
        line(100, triton=1.0, wrong={"cuda": "it was wrong: error 0.2"}),
        line(50, cuda=1, triton=9),
    )
    chosen = winner(50, *lines)
    assert chosen.backend == "triton"
    assert "cuda is left out, since on H100 (100 boxes) it was wrong: error 0.2" in chosen.reason


def test_the_backend_left_over_says_why_the_other_is_not_asked() -> None:
    chosen = winner(100_000, line(100, triton=1.0, wrong={"cuda": "it failed: LaunchError"}))
    assert chosen.backend == "triton"
    assert "it failed: LaunchError" in chosen.reason


def test_where_all_were_wrong_the_call_is_refused_with_the_reasons() -> None:
    both = {"cuda": "it was wrong: a", "triton": "it failed: b"}
    match = r"no backend serves nms.*cuda is left out.*it was wrong: a.*triton.*it failed: b"
    with pytest.raises(cvperf.UnsupportedError, match=match):
        winner(100, line(100, wrong=both))


def test_a_single_backend_is_refused_too_where_it_was_wrong() -> None:
    only = between((backend("triton"),))
    with (
        choice.recording([line(100, wrong={"triton": "it was wrong"})]),
        pytest.raises(cvperf.UnsupportedError, match="triton is left out"),
    ):
        only.function(torch.empty(5, 4), torch.empty(5), 0.5)


# --- the registry ---------------------------------------------------------------------------------


def test_the_registry_hands_each_call_to_the_winner_and_explains_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_backends", [backend("cuda"), backend("triton")])
    monkeypatch.setattr(registry, "_arbiters", {})
    registry.arbitrate("cpu", between)
    boxes = torch.empty(100, 4)
    try:
        with choice.recording([line(100, cuda=2.0, triton=1.0)]):
            assert registry.select_for("nms", boxes).function(boxes, boxes[:, 0], 0.5) == "triton"
            chosen = registry.explain_choice("nms", boxes, boxes[:, 0], 0.5)
            assert (chosen.backend, chosen.reason[:17]) == ("triton", "measured on sm_90")
            with registry.prefer("cuda"):
                assert registry.select_for("nms", boxes).function() == "cuda"
                assert "preferred" in registry.explain_choice("nms", boxes).reason
    finally:
        monkeypatch.undo()
        registry._forget()


def test_explain_choice_on_the_cpu_names_the_cpu_backend() -> None:
    chosen = registry.explain_choice("nms", torch.empty(3, 4), torch.empty(3), 0.5)
    assert chosen == Choice("cpu", "the one that takes cpu tensors")


def test_a_gpu_is_arbitrated_by_the_crossovers() -> None:
    both = registry._arbiters["cuda"]((backend("cuda"), backend("triton")))
    assert both.name == "cuda or triton"
    with choice.recording([line(3, cuda=2.0, triton=1.0)]):
        assert both.function(torch.empty(3, 4), torch.empty(3), 0.5) == "triton"


# --- places ---------------------------------------------------------------------------------------


def _smallest() -> list[Shape]:
    """Of every op, layout and dtype the benchmark's call with the fewest operations and bytes."""
    best: dict[tuple[object, ...], Shape] = {}
    for device in ("cpu", "cuda"):
        for shape in SUITES["kernels"](False, device):
            kind = ""
            if "weight" in shape.numbers:
                kind = kind_of_convolution(shape.numbers["weight"], shape.numbers["groups"])
            key = (shape.op, shape.layout, shape.dtype, kind)
            if key not in best or (shape.flop, shape.bytes) < (best[key].flop, best[key].bytes):
                best[key] = shape
    return list(best.values())


def _benchmarked() -> list[Any]:
    return [
        pytest.param(shape, id=f"{shape.op}-{shape.dtype}-{shape.name}") for shape in _smallest()
    ]


@pytest.mark.parametrize("shape", _benchmarked())
def test_the_place_of_a_benchmarks_call_is_that_of_its_row(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = []
    select = registry.select_for

    def spy(op: str, tensor: torch.Tensor) -> Backend:
        found = select(op, tensor)

        def function(*args: Any) -> Any:
            calls.append((op, args))
            return found.function(*args)

        return replace(found, function=function)

    monkeypatch.setattr(registry, "select_for", spy)
    made = OURS.contender(shape.problem())
    with made.context():
        made.run()
        (place,) = [PLACES[op](*args) for op, args in calls if op == shape.op]
    kind = ""
    if "weight" in shape.numbers:
        kind = kind_of_convolution(shape.numbers["weight"], shape.numbers["groups"])
    layout = "channels_last" if shape.layout == "channels_last" else "contiguous"
    ambiguous = calls[-1][1][0]
    if (
        isinstance(ambiguous, torch.Tensor)
        and layout == "channels_last"
        and ambiguous.is_contiguous()
    ):
        layout = place.layout  # one pixel or one channel: it is both
    assert place == Place(shape.dtype, layout, kind, shape.size)


def test_every_op_that_is_benchmarked_has_a_place() -> None:
    assert {shape.op for shape in _smallest()} == set(PLACES)


def test_a_convolution_that_may_use_tf32_is_a_kind_of_its_own() -> None:
    image, weight = torch.empty(1, 8, 9, 9), torch.empty(4, 8, 3, 3)
    geometry = ((1, 1), (0, 0), (1, 1), 1)
    for allowed, name in ((True, "tf32"), (False, "float32")):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            assert PLACES["conv2d"](image, weight, None, *geometry, None, None).dtype == name
            assert PLACES["conv2d"](image.half(), weight, None, *geometry).dtype == "float16"


# --- from the ledger ------------------------------------------------------------------------------


def test_the_file_is_what_the_ledger_gives(tmp_path: Path) -> None:
    gpu_crossovers.write(LEDGER, tmp_path / "derived")
    again = "python -m cvperf.benchmarks.gpu --page"
    assert (tmp_path / "derived").read_text() == crossovers.FILE.read_text(), again


@pytest.fixture
def derived(tmp_path: Path) -> Callable[..., list[Crossover]]:
    """The crossovers of a ledger with one GPU, whose rows are changes to a row of NMS."""
    blank = {
        "suite": "kernels", "op": "nms", "case": "100 uniform", "contender": "cvperf cuda",
        "status": "ok", "device": "cuda", "dtype": "float32", "layout": "n/a",
        "shape": {"boxes": [100, 4]}, "size": 100.0, "median_ms": 0.02, "host_us": 5.0,
        "environment": {"gpu": "NVIDIA H100", "gpu_capability": "9.0"},
    }  # fmt: skip

    def derive(*changes: dict[str, Any]) -> list[Crossover]:
        folder = tmp_path / "nvidia-h100"
        folder.mkdir()
        rows = "".join(json.dumps({**blank, **change}) + "\n" for change in changes)
        (folder / "kernels.jsonl").write_text(rows)
        gpu_crossovers.write(tmp_path, tmp_path / "out")
        return list(crossovers.read(tmp_path / "out"))

    return derive


def test_a_race_becomes_one_line(derived: Callable[..., list[Crossover]]) -> None:
    (found,) = derived(
        {},
        {"contender": "cvperf triton", "host_us": 31.0},
        {"contender": "torchvision", "median_ms": 0.05},
        {"contender": "torch.compile", "median_ms": 0.001},
        {"device": "cpu", "contender": "cvperf"},
    )
    assert (found.gpu, found.capability, found.op) == ("NVIDIA H100", 90, "nms")
    assert (found.dtype, found.layout, found.size) == ("float32", "contiguous", 100.0)
    assert found.ms == {"cuda": 0.02, "triton": 0.02, "original": 0.05}
    assert found.host_us == {"cuda": 5.0, "triton": 31.0, "original": 5.0}
    assert [found.us(who) for who in ("cuda", "triton", "original")] == [20.0, 31.0, 50.0]
    assert found.wrong == {}


def test_rows_without_a_right_answer_become_reasons(
    derived: Callable[..., list[Crossover]],
) -> None:
    (found,) = derived(
        {"status": "wrong", "median_ms": None, "note": "the error 0.2 is beyond"},
        {"contender": "cvperf triton", "status": "failed", "median_ms": None, "note": "OSError"},
        {"contender": "torchvision"},
    )
    assert found.ms == {"original": 0.02}
    assert found.wrong == {
        "cuda": "it was wrong: the error 0.2 is beyond", "triton": "it failed: OSError"
    }  # fmt: skip


@pytest.mark.parametrize(("activation", "original"), [(None, {"original": 0.01}), ("relu", {})])
def test_an_original_with_an_activation_behind_it_is_not_what_the_drop_in_replaces(
    derived: Callable[..., list[Crossover]], activation: str | None, original: dict[str, float]
) -> None:
    shape = {"weight": [64, 1, 3, 3], "groups": 64, "activation": activation}
    layer = {"op": "conv2d", "layout": "channels_last", "shape": shape}
    (found,) = derived(
        layer,
        {**layer, "contender": "torch"},
        {**layer, "contender": "cudnn", "median_ms": 0.01},
    )
    assert found.ms == {"cuda": 0.02, **original}
    assert (found.kind, found.layout) == ("depthwise", "channels_last")


def test_a_race_without_our_kernels_becomes_no_line(
    derived: Callable[..., list[Crossover]],
) -> None:
    assert derived({"contender": "torchvision"}) == []
