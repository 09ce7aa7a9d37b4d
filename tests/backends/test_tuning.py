"""Choices by measurement: the fastest wins, once, and the file remembers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import cvperf
from cvperf.backends import tuning


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "cache"))
    tuning.forget()
    return tmp_path / "cache" / "autotune.json"


def sleeper(seconds: float, calls: list[float]) -> Callable[[], None]:
    def run() -> None:
        calls.append(seconds)
        time.sleep(seconds)

    return run


def test_the_fastest_wins_and_is_measured_once(cache: Path) -> None:
    calls: list[float] = []
    candidates = {"slow": sleeper(0.004, calls), "fast": sleeper(0.001, calls)}
    choice = tuning.choose("a call", candidates)
    assert choice.name == "fast"
    assert choice.ms["slow"] > choice.ms["fast"] >= 1
    assert "slow" in str(choice)
    measured = len(calls)
    assert tuning.choose("a call", candidates) == choice
    tuning.forget()  # as in another process
    assert tuning.choose("a call", candidates) == choice
    assert len(calls) == measured
    assert "a call" in cache.read_text()


def test_another_call_other_candidates_and_other_threads_are_measured_anew() -> None:
    calls: list[float] = []
    candidates = {"one": sleeper(0.001, calls)}

    def measures(call: str, **more: Callable[[], None]) -> bool:
        before = len(calls)
        tuning.choose(call, {**candidates, **more})
        return len(calls) > before

    assert measures("a")
    assert not measures("a")
    assert measures("b")
    assert measures("a", two=sleeper(0.002, calls))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert measures("a", two=sleeper(0.002, calls))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null"])
def test_a_broken_file_is_replaced(cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    tuning.choose("a call", {"one": lambda: None})
    (stored,) = json.loads(cache.read_text()).values()
    assert stored["a call"]["name"] == "one"


@pytest.mark.parametrize(
    "entry", [7, {}, {"name": "one"}, {"name": "one", "ms": 2.0}, {"name": "two", "ms": {"one": 1}}]
)
def test_a_broken_entry_is_measured_again(cache: Path, entry: object) -> None:
    calls: list[float] = []
    candidates = {"one": sleeper(0.001, calls)}
    tuning.choose("a call", candidates)
    stored = json.loads(cache.read_text())
    (machine,) = stored
    stored[machine]["a call"] = entry
    cache.write_text(json.dumps(stored))
    tuning.forget()
    measured = len(calls)
    assert tuning.choose("a call", candidates).name == "one"
    assert len(calls) > measured
    stored[machine] = entry
    cache.write_text(json.dumps(stored))
    tuning.forget()
    assert tuning.choose("a call", candidates).name == "one"


def test_what_another_process_wrote_stays(cache: Path) -> None:
    tuning.choose("mine", {"one": lambda: None})
    stored = json.loads(cache.read_text())
    (machine,) = stored
    stored[machine]["theirs"] = stored[machine]["mine"]
    stored["another machine"] = {}
    cache.write_text(json.dumps(stored))
    tuning.choose("mine too", {"one": lambda: None})
    kept = json.loads(cache.read_text())
    assert kept[machine].keys() == {"mine", "theirs", "mine too"}
    assert "another machine" in kept


def test_the_drop_in_measures_each_layer_once_and_explains(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVPERF_AUTOTUNE", "1")
    image = torch.randn(1, 32, 28, 28).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3)
    expected = F.conv2d(image, weight, padding=1)
    cvperf.explain(reset=True)
    with cvperf.use("conv2d"):
        for _ in range(3):
            torch.testing.assert_close(
                F.conv2d(image, weight, padding=1), expected, rtol=1e-4, atol=1e-4
            )
    (row,) = [row for row in cvperf.explain(reset=True).rows if row.op == "aten::convolution"]
    assert row.calls == 3
    for name in ("original", "direct", "winograd2", "winograd4"):
        assert name in row.reason
    (stored,) = json.loads(cache.read_text()).values()
    (choice,) = stored.values()
    assert row.backend.endswith(choice["name"])


def test_the_drop_in_measures_nothing_unasked(cache: Path) -> None:
    image, weight = torch.randn(1, 8, 9, 9), torch.randn(8, 8, 3, 3)
    with cvperf.use("conv2d"):
        F.conv2d(image, weight)
    assert not cache.exists()


def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPERF_AUTOTUNE", "yes")
    with pytest.raises(ValueError, match="CVPERF_AUTOTUNE must be 0, 1 or full, got 'yes'"):
        tuning.enabled()
