"""docs/onnx.md says what the code does, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvperf.onnx.table import rows

PAGE = (Path(__file__).parents[2] / "docs/onnx.md").read_text()


def test_the_page_lists_the_operators_that_there_are() -> None:
    assert "\n".join(rows()) in PAGE, "python -m cvperf.onnx.table prints the table of docs/onnx.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    exec(compile(example, "docs/onnx.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "(2, 1, 96, 128)"
