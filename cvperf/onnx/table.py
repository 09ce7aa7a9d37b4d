"""The table of operators for docs/onnx.md: ``python -m cvperf.onnx.table`` prints it."""

from __future__ import annotations

from cvperf.onnx import operators
from cvperf.onnx.registry import HANDLERS


def themes() -> dict[str, list[str]]:
    """Theme (a file of ``cvperf/onnx/operators/``) -> the operators it translates."""
    found: dict[str, list[str]] = {theme: [] for theme in operators.__all__}
    for name, versions in HANDLERS.items():
        module = next(iter(versions.values())).__module__
        found[module.rpartition(".")[2]].append(name)
    return {theme: sorted(names) for theme, names in found.items()}


def rows() -> list[str]:
    """The table in Markdown, a row for each theme."""
    lines = ["| Theme | Operators |", "|---|---|"]
    for theme, names in themes().items():
        lines.append(f"| {theme} | {', '.join(names)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
