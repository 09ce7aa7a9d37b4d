"""The report in a real browser: opened from disk, sorted, filtered, dark and light, on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvperf.bench import report
from tests.bench.made_up import every_kind, race, save
from tests.browser import DARK, LIGHT, browse, needs_browser, overflow, run

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    rows = every_kind()
    for i in range(30):
        rows += race({"cvperf": 1 + i % 7, "torch": 3.0}, case=f"long name of case {i}", seed=i)
    file = save(folder / "all.jsonl", rows)
    return report.write([file], folder / "out", against=file).html.read_text()


def test_a_reader_sorts_filters_and_opens_rows(tmp_path: Path, page: str) -> None:
    seen = browse(
        tmp_path,
        page,
        """
        const seen = { before: texts("all", "ms") };
        press("all", "ms"); seen.up = texts("all", "ms");
        press("all", "ms"); seen.down = texts("all", "ms");
        seen.mark = column("all", "ms").getAttribute("aria-sort");
        press("all", "contender"); seen.names = texts("all", "contender");
        type("all", "conv2d TORCH"); seen.filtered = texts("all", "contender");
        seen.count = document.querySelector('input[aria-controls="all"]')
          .closest(".tools").querySelector("output").textContent;
        type("all", "nms -torch"); seen.without = texts("all", "contender");
        type("all", "");
        const open = table("all").querySelector(".open");
        open.click();
        seen.opened = open.closest("tr").nextElementSibling.textContent;
        seen.expanded = open.getAttribute("aria-expanded");
        press("all", "ms"); seen.closed = texts("all", "ms").length;
        seen.errors = errors;
        seen.fetched = performance.getEntriesByType("resource").map(entry => entry.name)
          .filter(name => !name.startsWith("data:"));
        tell(seen);
        """,
    )
    assert seen["errors"] == []
    assert seen["fetched"] == []
    timed = [float(text.replace(",", "")) for text in seen["up"] if text]
    assert timed == sorted(timed)
    assert seen["up"] != seen["before"]
    assert seen["up"][len(timed) :] == [""] * (len(seen["up"]) - len(timed))
    assert [text for text in seen["down"] if text] == [
        text for text in reversed(seen["up"]) if text
    ]
    assert seen["down"][-1] == ""
    assert seen["mark"] == "descending"
    assert seen["names"] == sorted(seen["names"])
    assert seen["filtered"] == ["torch"] * 4
    assert seen["count"] == f"4 of {len(seen['before'])} rows"
    assert "cvperf" in seen["without"]
    assert "torch" not in seen["without"]
    assert "cvperf bench kernels --op nms" in seen["opened"]
    assert seen["expanded"] == "true"
    assert seen["closed"] == len(seen["before"])


def test_the_page_follows_the_systems_theme_and_its_own_button(tmp_path: Path, page: str) -> None:
    script = """
        const colours = () => [document.body, document.querySelector("svg text")]
          .map(element => getComputedStyle(element))
          .flatMap(style => [style.backgroundColor, style.fill]).filter((_, i) => i % 3 === 0);
        const seen = { system: colours() };
        document.getElementById("theme").click(); seen.dark = colours();
        document.getElementById("theme").click(); seen.light = colours();
        document.getElementById("theme").click(); seen.again = colours();
        tell(seen);
    """
    (tmp_path / "dark").mkdir()
    (tmp_path / "light").mkdir()
    dark = browse(tmp_path / "dark", page, script, DARK)
    light = browse(tmp_path / "light", page, script, LIGHT)
    assert dark["system"] == dark["again"] == dark["dark"] == light["dark"]
    assert light["system"] == light["again"] == light["light"] == dark["light"]
    for night, day in zip(dark["system"], light["system"], strict=True):
        assert night != day


def test_nothing_makes_the_page_scroll_sideways_on_a_phone_or_a_desk(
    tmp_path: Path, page: str
) -> None:
    assert overflow(tmp_path, page) == {390: (0, []), 1280: (0, [])}


def test_a_screenshot_shows_more_than_an_empty_page(tmp_path: Path, page: str) -> None:
    from PIL import Image

    file, shot = tmp_path / "page.html", tmp_path / "shot.png"
    file.write_text(page)
    run(tmp_path, file, f"--screenshot={shot}", "--window-size=1280,3000", LIGHT)
    picture = Image.open(shot).convert("RGB")
    assert picture.size == (1280, 3000)
    colours = picture.getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 50  # text is drawn in shades of its colour
