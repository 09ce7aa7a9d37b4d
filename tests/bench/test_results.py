"""Results files say what they hold, and refuse what they do not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.bench import results
from cvperf.bench.results import Measurement, ResultsError

ROW = Measurement(
    suite="kernels",
    op="nms",
    case="10 boxes",
    contender="cvperf",
    status="ok",
    device="cpu",
    dtype="float32",
    layout="n/a",
    shape={"boxes": (10, 4)},
    median_ms=0.5,
    p20_ms=0.4,
    p80_ms=1,
    n=3,
    samples_ms=[0.4, 0.5, 1.0],
    environment={"cpu": "a processor"},
)


def write(path: Path, *rows: Measurement) -> Path:
    with results.writer(path) as file:
        for row in rows:
            file.write(row)
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    missing = replace(
        ROW, contender="onnxruntime", status="missing", median_ms=None, n=0, samples_ms=()
    )
    (first, second) = results.read(write(tmp_path / "a.jsonl", ROW, missing))
    assert first == replace(ROW, shape={"boxes": [10, 4]})
    assert (second.contender, second.status, second.median_ms) == ("onnxruntime", "missing", None)


def test_folders_are_searched_for_files(tmp_path: Path) -> None:
    write(tmp_path / "gpu/a.jsonl", ROW)
    write(tmp_path / "cpu/deep/b.jsonl", ROW, ROW)
    assert len(results.read_all([tmp_path, tmp_path / "gpu/a.jsonl"])) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"empty holds no \.jsonl file"):
        results.read_all([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "kernel"}, "suite must be one of kernels, models"),
        ({"status": "fine"}, "status must be one of ok, wrong"),
        ({"status": "wrong"}, "a time belongs to every row that is ok, and to no other"),
        ({"median_ms": None}, "a time belongs to every row that is ok"),
        ({"median_ms": "fast"}, "median_ms must be .*float.*, got 'fast'"),
        ({"n": 2.5}, "n must be int, got 2.5"),
        ({"n": True}, "n must be int, got True"),
        ({"op": None}, "op must be str, got None"),
        ({"samples_ms": "0.4"}, "samples_ms must be"),
        ({"shape": [1, 2]}, "shape must be"),
        ({"error": float("inf")}, "error must be finite, got inf"),
        ({"schema": 99}, "schema is 99; this version of cvperf reads 1"),
    ],
)
def test_a_row_that_is_no_measurement_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        replace(ROW, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"bad\.jsonl, line 2: Expecting property name"),
        ("[1]", r"bad\.jsonl, line 2: expected an object, got list"),
        ('{"speed": 1}', r"bad\.jsonl, line 2: unknown fields: speed"),
        ('{"suite": "kernels"}', r"bad\.jsonl, line 2: missing .* required .*'op'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "bad.jsonl", ROW)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ResultsError, match=message):
        results.read(path)


def test_a_killed_run_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROW)
    with contextlib.suppress(KeyboardInterrupt), results.writer(path) as file:
        file.write(replace(ROW, case="half"))
        raise KeyboardInterrupt
    assert [row.case for row in results.read(path)] == ["10 boxes"]
    assert [row.case for row in results.read(tmp_path / "a.jsonl.partial")] == ["half"]


def test_every_field_is_documented_for_readers_of_the_files() -> None:
    text = (Path(__file__).parents[2] / "docs/benchmarking.md").read_text()
    missing = [name for name in json.loads(json.dumps(ROW.__dict__, default=list))
               if f"`{name}`" not in text]  # fmt: skip
    assert not missing, f"docs/benchmarking.md does not explain {missing}"
