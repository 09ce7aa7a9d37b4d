"""The report in a real browser: opened from disk, sorted, filtered, dark and light, on a phone.

Chromium runs a copy of the page with a script at its end, which does what a reader would do and
writes what it then sees into the page; ``--dump-dom`` prints that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from cvperf.bench import report
from tests.bench.made_up import every_kind, race, save

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CVPERF_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)

pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"),
    reason=f"none of {', '.join(BROWSERS)} is installed; CVPERF_BROWSER names another",
)

DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"

TELL = """
function tell(what) {
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify(what);
  document.body.append(told);
}
const errors = [];
window.addEventListener("error", event => errors.push(event.message));
const table = id => document.getElementById(id);
const column = (id, name) =>
  [...table(id).tHead.rows[0].cells].find(cell => cell.textContent.trim() === name);
const texts = (id, name) => [...table(id).tBodies[0].rows].filter(row => !row.hidden)
  .map(row => row.cells[column(id, name).cellIndex].textContent.trim());
const press = (id, name) => column(id, name).querySelector("button").click();
const type = (id, text) => {
  const input = document.querySelector(`input[aria-controls="${id}"]`);
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    rows = every_kind()
    for i in range(30):
        rows += race({"cvperf": 1 + i % 7, "torch": 3.0}, case=f"long name of case {i}", seed=i)
    file = save(folder / "all.jsonl", rows)
    return report.write([file], folder / "out", against=file).html.read_text()


def browse(folder: Path, html: str, script: str, *flags: str) -> Any:
    """What ``tell(...)`` in ``script`` was given, after the page has run."""
    file = folder / "page.html"
    file.write_text(html.replace("</html>", f"<script>{TELL}{script}</script></html>"))
    return _told(_run(folder, file, "--dump-dom", *flags))


def _run(folder: Path, file: Path, *flags: str) -> str:
    assert BROWSER is not None, "CI must have a browser: apt-get install chromium"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=3000", *flags, file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def _told(dom: str) -> Any:
    found = re.search(r'<pre id="told">(.*?)</pre>', dom, flags=re.DOTALL)
    assert found is not None, f"the script did not end; the page begins {dom[:500]!r}"
    return json.loads(unescape(found[1]))


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
    inner = tmp_path / "inner.html"
    measure = """
        for (const button of document.querySelectorAll(".open")) button.click();
        const room = document.documentElement.clientWidth;  // without the scroll bar
        const wide = [...document.querySelectorAll("main *")]
          .filter(e => !e.closest(".box, svg") && e.getBoundingClientRect().right > room + 1)
          .map(e => e.tagName + "." + e.className);
        const beyond = document.documentElement.scrollWidth - room;
        parent.postMessage({ frame: innerWidth, beyond, wide }, "*");
    """
    inner.write_text(page.replace("</html>", f"<script>{measure}</script></html>"))
    # Headless windows have a least width, frames do not.
    frames = "".join(
        f'<iframe src="{inner.as_uri()}" style="border:0;width:{width}px;height:800px"></iframe>'
        for width in (390, 1280)
    )
    seen = browse(
        tmp_path,
        f"<html><body>{frames}</body></html>",
        """
        const seen = [];
        window.addEventListener("message", event => {
          seen.push(event.data);
          if (seen.length === 2) tell(seen.sort((a, b) => a.frame - b.frame));
        });
        """,
    )
    assert seen == [{"frame": width, "beyond": 0, "wide": []} for width in (390, 1280)]


def test_a_screenshot_shows_more_than_an_empty_page(tmp_path: Path, page: str) -> None:
    from PIL import Image

    file, shot = tmp_path / "page.html", tmp_path / "shot.png"
    file.write_text(page)
    _run(tmp_path, file, f"--screenshot={shot}", "--window-size=1280,3000", LIGHT)
    picture = Image.open(shot).convert("RGB")
    assert picture.size == (1280, 3000)
    colours = picture.getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 50  # text is drawn in shades of its colour
