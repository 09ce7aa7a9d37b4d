"""``with cvperf.profiler.profile() as p:`` around a small detector."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

import cvperf
from cvperf.profiler import Profile, profile
from cvperf.profiler.tables import OUTSIDE


@pytest.fixture
def p(model: nn.Module, image: Tensor) -> Profile:
    model(image)
    with profile("detector") as p, torch.inference_mode():
        model(image)
    return p


def test_the_ops_have_names_and_their_shares_sum_to_one(p: Profile) -> None:
    rows = {row.name: row for row in p.ops}
    assert {"convolution", "NMS", "RoI Align", "aten::linear", OUTSIDE} <= set(rows)
    assert sum(row.share for row in p.ops) == pytest.approx(1.0)
    assert (rows["convolution"].calls, rows["NMS"].calls, rows["RoI Align"].calls) == (2, 1, 1)
    assert all(row.ms >= 0 for row in p.ops)


def test_the_layers_are_named_by_their_path(p: Profile) -> None:
    names = [row.name for row in p.layers]
    assert names == [
        "SmallDetector",
        "SmallDetector.body",
        *(f"SmallDetector.body.{place}" for place in range(5)),
        "SmallDetector.head",
    ]
    assert [row.kind for row in p.layers][:3] == ["SmallDetector", "Sequential", "Conv2d"]


def test_a_layer_holds_the_time_of_those_inside_it(p: Profile) -> None:
    rows = {row.name.removeprefix("SmallDetector."): row for row in p.layers}
    inside = sum(rows[f"body.{place}"].ms for place in range(5))
    assert rows["body"].ms == pytest.approx(inside + rows["body"].self_ms)
    whole = rows["SmallDetector"]
    assert whole.ms == pytest.approx(whole.self_ms + rows["body"].ms + rows["head"].ms)
    assert whole.ms <= p.wall_ms


def test_calls_are_known_by_their_shape_and_layer(p: Profile) -> None:
    found = {call.text: call for call in p.calls if call.shapes}
    conv = found["5x5 6-16 12x12 p0 n1 contiguous"]
    assert conv.layers == ["SmallDetector.body.3"]
    assert conv.work[0].flop == 2 * 16 * 8 * 8 * 6 * 25
    assert "20 boxes" in found
    assert any("3x3 of 16x8x8" in text for text in found)


def test_the_memory_peak_is_what_the_block_held() -> None:
    with profile() as p:
        kept = torch.zeros(1 << 20)
        torch.zeros(1 << 18)
    (curve,) = p.memory
    assert curve.peak_bytes == 4 * ((1 << 20) + (1 << 18))
    assert curve.peak_op == "aten::zeros"
    assert curve.points[-1][1] == kept.nbytes


def test_two_models_of_one_class_are_told_apart(image: Tensor) -> None:
    first, second = (nn.Sequential(nn.Conv2d(1, 2, 3)) for _ in range(2))
    with profile() as p:
        first(image)
        second(image)
        first(image)
    assert [(row.name, row.calls) for row in p.layers] == [
        ("Sequential", 2), ("Sequential.0", 2), ("Sequential#2", 1), ("Sequential#2.0", 1)
    ]  # fmt: skip


def test_gradients_are_named_too(model: nn.Module, image: Tensor) -> None:
    with profile() as p:
        model(image).sum().backward()
    calls = {row.name: row.calls for row in p.ops}
    assert calls["convolution backward"] == 2
    assert calls["RoI Align backward"] == 1
    backward = [call for call in p.calls if call.op == "aten::convolution_backward"]
    # The image needs no gradient, so the first layer has the weights' only.
    assert sorted(len(call.shapes) for call in backward) == [1, 2]


def test_a_layer_that_raises_closes_its_range(image: Tensor) -> None:
    class Faulty(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError("on purpose")

    model = nn.Sequential(nn.ReLU())
    with profile() as p:
        with pytest.raises(ArithmeticError):
            nn.Sequential(Faulty())(image)
        model(image)
    parents = {span.name: p.one.spans[span.parent].kind for span in p.one.spans}
    assert parents["Sequential#2"] == "pass"


def test_a_block_that_raises_leaves_nothing_behind(image: Tensor) -> None:
    with pytest.raises(ArithmeticError), profile() as p:
        raise ArithmeticError("on purpose")
    assert not hooks._global_forward_pre_hooks
    assert not hooks._global_forward_hooks
    with pytest.raises(RuntimeError, match="the profile is empty"):
        _ = p.ops


def test_it_prints_without_rich(p: Profile) -> None:
    text = str(p)
    for words in ("profile of detector", "convolution", "NMS", "RoI Align", "memory over time"):
        assert words in text
    assert "one pass, times as the profiler saw them" in text


def test_the_files_are_whole(p: Profile, tmp_path: Path) -> None:
    page = p.export(tmp_path / "out")
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "index.html", "profile.json", "profile.md", "trace.json.gz"
    ]  # fmt: skip
    events = json.loads(gzip.decompress((page.parent / "trace.json.gz").read_bytes()))
    names = {event["name"] for event in events["traceEvents"]}
    assert {"SmallDetector.body.0", "torchvision::nms"} <= names
    data = json.loads((page.parent / "profile.json").read_text())
    assert sum(row["share"] for row in data["ops"]) == pytest.approx(1.0)
    assert data["calls"][0].keys() >= {"op", "call", "ms", "flop", "bytes", "layers"}


def test_the_page_needs_no_network(p: Profile, tmp_path: Path) -> None:
    html = p.export(tmp_path).read_text()
    assert "SmallDetector" in html
    assert "<svg" in html
    assert "prefers-color-scheme: dark" in html
    assert not re.findall(r"(?:src|href)=|url\(|@import|<script", html)


def test_cvperf_has_it_by_name() -> None:
    assert cvperf.profile is profile


def test_importing_cvperf_does_not_import_the_profiler() -> None:
    code = "import sys, cvperf; print([name for name in sys.modules if 'cvperf.profiler' in name])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
