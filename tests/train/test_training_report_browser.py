"""The report of a training run in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvperf.train.report import Mark, Mistake, Scene
from tests.browser import browse, needs_browser, overflow
from tests.train.made_up_run import written

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = [f"a long name of class {number}" for number in range(40)]
    return written(
        tmp_path_factory.mktemp("run"),
        classes=names,
        final={f"recall/{name}": number * 7 % 40 / 40 for number, name in enumerate(names)},
        confusion=torch.eye(40, dtype=torch.int64) * 5 + 1,
        mistakes=[Mistake(torch.zeros(1, 8, 8, dtype=torch.uint8), "long" * 30, names[0], 1.0)],
        explain="x" * 500,
        command="y" * 500,
    )


def test_a_reader_sorts_classes_and_sees_small_pictures_enlarged(tmp_path: Path, page: str) -> None:
    seen = browse(
        tmp_path,
        page,
        """
        press("each", "recall");
        const image = document.querySelector(".mistakes img");
        image.loading = "eager";
        image.decode().then(() => tell({
          recall: texts("each", "recall").map(Number),
          image: [image.naturalWidth, image.width > 100, getComputedStyle(image).imageRendering],
          cells: document.querySelectorAll(".matrix rect").length,
          errors,
          fetched: performance.getEntriesByType("resource").map(entry => entry.name)
            .filter(name => !name.startsWith("data:")),
        }));
        """,
    )
    assert seen["errors"] == seen["fetched"] == []
    assert seen["recall"] == sorted(seen["recall"])
    assert seen["image"] == [8, True, "pixelated"]
    assert seen["cells"] == 1600


def test_nothing_scrolls_sideways(tmp_path: Path, page: str) -> None:
    assert overflow(tmp_path, page) == {390: (0, []), 1280: (0, [])}


def test_a_reader_hides_a_kind_of_boxes(tmp_path: Path) -> None:
    marks = [Mark(kind, (1, 1, 9, 9), kind) for kind in ("right", "false", "missed", "seen")]
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)
    page = written(tmp_path, pictures=[Scene(image, marks)])
    seen = browse(
        tmp_path,
        page,
        """
        const shown = () => [...document.querySelectorAll(".scenes g")]
          .filter(group => getComputedStyle(group).display !== "none").map(g => g.classList[0]);
        const before = shown();
        document.querySelector(".switches [value=false]").click();
        const box = document.querySelector(".scenes .missed rect");
        tell({before, after: shown(), dashed: getComputedStyle(box).strokeDasharray, errors});
        """,
    )
    assert seen["errors"] == []
    assert seen["before"] == ["right", "false", "missed", "seen"]
    assert seen["after"] == ["right", "missed", "seen"]
    assert seen["dashed"] == "5px, 3px"
