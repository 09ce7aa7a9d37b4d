"""The documents: every path and command they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_named_exists(document: Path) -> None:
    text = document.read_text()
    quoted = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:txt|toml|md))`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [path for path in quoted if not (ROOT / path).exists() and path not in MADE_LATER]
    missing += [link for link in linked if not (document.parent / link).exists()]
    assert not missing, f"{document.name} names paths that do not exist: {missing}"


# Written by the commands that the documents describe.
MADE_LATER = {"report/index.html", "report/demo.jsonl"}


def test_the_contributing_recipe_names_paths_at_all() -> None:
    assert len(re.findall(r"`(?:[\w.-]+/)+[\w.-]+`", (ROOT / "CONTRIBUTING.md").read_text())) >= 10


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"`?make (\w+)`", document.read_text()))
        assert named <= targets, f"{document.name}: {named - targets}"


def test_every_recipe_named_exists() -> None:
    from cvperf.train import catalogue

    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"cvperf train ([a-z0-9-]+/[a-z0-9-]+)", document.read_text())
    }
    assert len(named) >= 5
    assert named <= set(catalogue.names())
