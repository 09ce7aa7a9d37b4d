"""``cvperf profile`` from target to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cvperf.bench import results
from cvperf.bench.problems.nms import NmsShape
from cvperf.bench.results import Measurement
from cvperf.bench.roofline import BYTES, OPERATIONS
from cvperf.profiler import command, ncu
from cvperf.profiler.check import Check
from cvperf.profiler.target import ProfileError

NET = """
import torch
from torchvision.ops import nms
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
boxes = torch.rand(2000, 4) + torch.tensor([0, 0, 1, 1])
def forward():
    net(torch.zeros(1, 3, 32, 32))
    return nms(boxes, torch.rand(2000), 0.5)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "command_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "command_net", raising=False)
    return tmp_path


@pytest.fixture
def ledger(row: Callable[..., Measurement], folder: Path) -> Path:
    """NMS at a ratio of 4, 1e11 operations a second, 1e10 bytes a second."""
    shape = NmsShape(name="2000 clustered", boxes=2000, arrangement="clustered")
    rows = [row(shape, "torchvision", 4.0), row(shape, "cvperf", 1.0)]
    for op, unit, rate in (("fma", OPERATIONS, 1e11), ("copy memory", BYTES, 1e10)):
        detail = {"unit": unit, "rate": rate, "level": "memory", "capacity": 1 << 40}
        threads = {"threads": int(rows[0].environment["threads"])}
        rows.append(row(shape, "measured", 1.0, suite="peaks", op=op, case=op, dtype="float32",
                        shape=threads, detail=detail))  # fmt: skip
    path = folder / "ledger.jsonl"
    with results.writer(path) as file:
        for one in rows:
            file.write(one)
    return path


def test_it_prints_and_writes_the_profile(
    folder: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.run("command_net:forward", folder / "out", repeats=2, ledger=ledger, check=True)
    assert code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "profile of command_net:forward",
        "NMS",
        "nms: ratio read from '2000 clustered'",
        'with cvperf.use("nms"):',
        "ui.perfetto.dev",
    ):
        assert words in printed
    assert "off." in printed
    data = json.loads((folder / "out" / "profile.json").read_text())
    assert data["advice"]["use"] == ["nms"]
    saved = data["advice"]["saving_ms"]
    (nms,) = [row for row in data["ops"] if row["name"] == "NMS"]
    assert saved == pytest.approx(nms["ms"] * 3 / 4)
    (convolution,) = [row for row in data["ops"] if row["name"] == "convolution"]
    assert 0 < convolution["roofline_share"] < 1


def test_check_needs_a_target_that_may_run_twice(folder: Path, ledger: Path) -> None:
    with pytest.raises(ProfileError, match="is run once only"):
        command.run("command_net.py", folder / "out", ledger=ledger, check=True)


def test_the_error_of_a_prediction_is_relative_to_what_was_gained() -> None:
    tried = Check(predicted_ms=11, predicted_share=0.11, gained_ms=10, torch_ms=100, cvperf_ms=90)
    assert tried.gained_share == pytest.approx(0.1)
    assert tried.error == pytest.approx(0.1)


def test_a_device_that_is_not_there_is_refused_first(folder: Path) -> None:
    with pytest.raises(ProfileError, match="device must be cpu or cuda, got 'tpu'"):
        command.run("command_net:forward", folder / "out", device="tpu")


def test_without_ncu_the_error_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ncu.NcuError, match="ncu is not on the PATH"):
        command.run("command_net:forward", folder / "out", ncu=True)


def test_the_command_for_ncu_runs_the_same_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncu.shutil, "which", lambda name: f"/cuda/{name}")
    words = ncu.command(["resnet18", "cuda", "8", "0"], Path("out.ncu-rep"))
    assert words[0] == "/cuda/ncu"
    assert words[-6:] == ["-m", "cvperf.profiler.bare", "resnet18", "cuda", "8", "0"]
    assert words[words.index("--nvtx-include") + 1] == "cvperf/"


def test_counters_are_read_from_ncu_s_table() -> None:
    heading = (
        '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'
    )
    lines = [
        '"0","7","conv","GPU Speed Of Light Throughput","Duration","us","12.5"',
        '"0","7","conv","GPU Speed Of Light Throughput","Memory Throughput","%","61.0"',
        '"0","7","conv","Occupancy","Achieved Occupancy","%","48.9"',
        '"1","7","nms","Occupancy","Achieved Occupancy","%","9.0"',
        '"1","7","nms","Occupancy","Block Limit Warps","block","16"',
    ]
    first, second = ncu.parse("\n".join([heading, *lines]))
    assert (first.kernel, second.kernel) == ("conv", "nms")
    assert first.values == {"time": "12.5 us", "memory": "61.0 %", "occupancy": "48.9 %"}
    assert second.values == {"occupancy": "9.0 %"}


def test_a_ledger_that_is_not_there_is_refused_before_the_target_runs(folder: Path) -> None:
    with pytest.raises(ProfileError, match=r"there is no ledger 'none.jsonl'; make one"):
        command.run("command_net:forward", folder / "out", ledger=Path("none.jsonl"))
    assert "command_net" not in sys.modules


def test_an_error_of_the_target_itself_is_left_alone(folder: Path) -> None:
    (folder / "command_net.py").write_text("def forward():\n    raise KeyError('mine')\n")
    with pytest.raises(KeyError, match="mine"):
        command.run("command_net:forward", folder / "out")
