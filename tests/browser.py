"""A page in a real browser, opened from disk.

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

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CVPERF_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)

needs_browser = pytest.mark.skipif(
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


def browse(folder: Path, html: str, script: str, *flags: str) -> Any:
    """What ``tell(...)`` in ``script`` was given, after the page has run."""
    file = folder / "page.html"
    file.write_text(html.replace("</html>", f"<script>{TELL}{script}</script></html>"))
    return _told(run(folder, file, "--dump-dom", *flags))


def overflow(folder: Path, page: str) -> dict[int, tuple[int, list[str]]]:
    """On a phone (390 pixels) and a desk (1280): how far the page scrolls sideways, and what is
    too wide. Boxes that scroll themselves, and pictures, may be."""
    inner = folder / "inner.html"
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
        folder,
        f"<html><body>{frames}</body></html>",
        """
        const seen = [];
        window.addEventListener("message", event => {
          seen.push(event.data);
          if (seen.length === 2) tell(seen.sort((a, b) => a.frame - b.frame));
        });
        """,
    )
    return {one["frame"]: (one["beyond"], one["wide"]) for one in seen}


def run(folder: Path, file: Path, *flags: str) -> str:
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
