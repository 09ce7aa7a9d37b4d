"""The content as one self-contained HTML page, and as Markdown."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cvperf.bench.report import regression, text
from cvperf.bench.report.content import Content
from cvperf.bench.results import Measurement, ResultsError
from cvperf.page import templates

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 15
"""Lines of a table in Markdown; how many more there are is said."""

VERDICTS = {
    "faster": "faster",
    "even": "no clear difference",
    "slower": "slower",
    "undecided": "too few rounds to tell",
    "unopposed": "no peer has a time",
    "absent": "cvperf not measured",
    "wrong": "cvperf is WRONG",
    "failed": "cvperf FAILED",
    "unsupported": "cvperf does not offer it",
    "missing": "cvperf not installed",
}


def html(content: Content) -> str:
    """The page. Style, script, plots and pictures are inside it."""
    page = _templates(autoescape=True).get_template("report.html.j2")
    numbers = {id(row): index for index, row in enumerate(content.rows)}
    return page.render(
        **_shared(content),
        headline=headline(content),
        number=lambda row: numbers[id(row)],
        details=[details(row) for row in content.rows],
    )


def markdown(content: Content) -> str:
    """The summary and its tables, short enough for a comment on a pull request."""
    page = _templates(autoescape=False).get_template("report.md.j2")
    return page.render(**_shared(content), headline=headline(content), shown=SHOWN)


def headline(content: Content) -> str:
    """The one line to read."""
    counts = content.counts
    parts = [f"{counts.faster} faster", f"{counts.even} with no clear difference"]
    parts.append(f"{counts.slower} slower")
    others = {
        "with too few rounds to tell": counts.undecided,
        "without a peer": counts.unopposed,
        "without cvperf": counts.absent,
        "where cvperf has no time": counts.without_time,
    }
    parts += [f"{number} {what}" for what, number in others.items() if number]
    line = f"{counts.cases} cases: {', '.join(parts)}."
    if content.baseline is not None:
        found = content.baseline.counts
        line += f" Against the baseline: {found['regression']} slower beyond noise"
        line += f", {found['lost']} lost, {found['improvement']} faster"
        line += f", {found['unclear']} unclear, {found['same']} the same."
    return line


def details(row: Measurement) -> dict[str, Any]:
    """What a row's line has no room for, as the page's script shows it."""
    facts = {
        "version": row.version,
        "layout": row.layout,
        "status": row.status,
        "time": _time(row),
        "samples": str(row.n) if row.n else "",
        "error": _error(row),
        "roofline": _roofline(row),
        "work": _work(row),
        "peak memory": text.scaled(row.peak_bytes, "B"),
        "host": f"{text.digits(row.host_us)} us a call" if row.host_us is not None else "",
        "energy": f"{text.digits(row.energy_j)} J a call" if row.energy_j is not None else "",
        "process": str(row.detail.get("process", "")),
        "note": row.note,
    }
    return {
        "name": f"{row.op} {row.case}: {row.contender}",
        "shape": text.shape(row.shape),
        "facts": {name: fact for name, fact in facts.items() if fact},
        "command": row.command,
    }


def _time(row: Measurement) -> str:
    if row.median_ms is None:
        return ""
    spread = f" (p20 {text.ms(row.p20_ms)}, p80 {text.ms(row.p80_ms)})" if row.p20_ms else ""
    return f"median {text.ms(row.median_ms)} ms{spread}"


def _error(row: Measurement) -> str:
    if row.error is None:
        return ""
    allowed = "" if row.tolerance is None else f"; tolerance {text.error(row.tolerance)}"
    return text.error(row.error) + allowed


def _roofline(row: Measurement) -> str:
    if row.roofline_ms is None:
        return ""
    share = f", {text.percent(row.roofline_share)} of it reached" if row.roofline_share else ""
    return f"{text.ms(row.roofline_ms)} ms{share}"


def _work(row: Measurement) -> str:
    parts = [text.scaled(row.flop, "op")] if row.flop else []
    return ", ".join([*parts, text.scaled(row.bytes, "B")] if row.bytes else parts)


def _shared(content: Content) -> dict[str, Any]:
    return {
        "content": content,
        "verdicts": VERDICTS,
        "margin": regression.MARGIN,
        "absolute_margin": regression.ABSOLUTE_MARGIN,
        "confidence": regression.CONFIDENCE,
    }


def _templates(autoescape: bool) -> Environment:
    found = templates("cvperf.bench", autoescape=autoescape)
    found.policies["json.dumps_kwargs"] = {"sort_keys": False}  # facts keep their order
    found.filters |= {
        "ms": text.ms,
        "digits": text.digits,
        "times": text.times,
        "with_interval": text.with_interval,
        "error": text.error,
        "percent": text.percent,
        "scaled": text.scaled,
        "call": text.shape,
        "picture": _picture,
        "cell": _cell,
    }
    return found


def _picture(detail: Mapping[str, Any]) -> str:
    """A picture of a row as a data address; refused if it is not base64."""
    data = str(detail.get("png", ""))
    try:
        image = base64.b64decode(data, validate=True)
    except binascii.Error:
        image = b""
    if not image.startswith(b"\x89PNG"):
        raise ResultsError(f"picture {detail.get('caption')!r}: png must be a PNG file in base64")
    return f"data:image/png;base64,{data}"


def _cell(value: object) -> str:
    """Text that cannot break out of a Markdown table."""
    plain = " ".join(str(value).split())
    for character in "\\|<*_`[":
        plain = plain.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return plain
