"""The profile as files: a page, its Markdown twin, the data, and the trace."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cvperf import environment
from cvperf.page import templates
from cvperf.profiler.memory import Curve
from cvperf.profiler.sections import Section, sections
from cvperf.profiler.session import Profile

_ROWS = 40  # of a table on the page
_WIDTH, _HEIGHT = 800, 180


def write(profile: Profile, folder: Path) -> Path:
    """Write index.html, profile.md, profile.json and trace.json.gz; returns the page's path.

    The files are made aside and moved into ``folder`` when all are there.

    Raises:
        ImportError: jinja2 is not installed.
    """
    found = sections(profile, _ROWS)
    files = {
        "index.html": _html(profile, found).encode(),
        "profile.md": markdown(found).encode(),
        "profile.json": json.dumps(data(profile), indent=1, allow_nan=False).encode(),
        "trace.json.gz": gzip.compress(profile.chrome_trace, compresslevel=5),
    }
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
    try:
        for name, content in files.items():
            (aside / name).write_bytes(content)
        for name in files:
            os.replace(aside / name, folder / name)
    finally:
        shutil.rmtree(aside)
    return folder / "index.html"


def data(profile: Profile) -> dict[str, Any]:
    """Everything but the trace, for other programs; times in milliseconds."""
    advice = profile.advice
    return {
        "target": profile.target,
        "notes": list(profile.notes),
        "wall_ms": profile.wall_ms,
        "unprofiled": profile.unprofiled,
        "passes": profile.passes,
        "ops": [asdict(row) for row in profile.ops],
        "layers": [asdict(row) for row in profile.layers],
        "calls": [
            {
                "op": call.op,
                "call": call.text,
                "device": call.device,
                "dims": call.arguments.dims,
                "scalars": list(call.arguments.concrete),
                "calls": len(call.us),
                "ms": call.ms,
                "flop": sum(one.flop for one in call.work),
                "bytes": sum(one.bytes for one in call.work),
                "roofline_share": profile.roofline_share(call),
                "layers": call.layers,
            }
            for call in profile.calls
        ],
        "memory": [asdict(curve) for curve in profile.memory],
        "gpu": asdict(profile.gpu) if profile.gpu else None,
        "advice": {
            "use": list(advice.names),
            "saving_ms": advice.saving_ms,
            "share": advice.share,
            "ledger": advice.ledger,
            "notes": list(advice.notes),
            "calls": [
                {
                    "op": verdict.call.op,
                    "call": verdict.call.text,
                    "calls": len(verdict.call.us),
                    "ms": verdict.call.ms,
                    "refusal": verdict.refusal,
                    "ratio": verdict.ratio.value if verdict.ratio else None,
                    "cases": list(verdict.ratio.cases) if verdict.ratio else [],
                    "saving_ms": verdict.saving_ms,
                }
                for line in advice.lines
                for verdict in line.verdicts
            ],
        },
        "environment": environment.collect(),
    }


def markdown(found: list[Section]) -> str:
    """The sections as Markdown."""
    parts = []
    for level, section in zip("#" + "2" * len(found), found, strict=False):
        lines = [f"{'#' if level == '#' else '##'} {section.title}", "", *_paragraphs(section.text)]
        if section.rows:
            heads = [heading.removeprefix(">") for heading in section.headings]
            rule = ["---:" if h.startswith(">") else "---" for h in section.headings]
            table = [heads, rule, *([_cell(cell) for cell in row] for row in section.rows)]
            lines += [f"| {' | '.join(row)} |" for row in table] + [""]
        lines += _paragraphs(section.after)
        lines += ["```python", section.code, "```", ""] if section.code else []
        parts.append("\n".join(lines))
    return "\n".join(parts)


def _paragraphs(sentences: list[str]) -> list[str]:
    return [part for sentence in sentences for part in (sentence, "")]


def _cell(text: str) -> str:
    return text.replace("  ", "&nbsp;&nbsp;").replace("|", "\\|")


def _html(profile: Profile, found: list[Section]) -> str:
    return (
        templates("cvperf.profiler")
        .get_template("profile.html.j2")
        .render(
            profile=profile,
            sections=[found[0], found[-1], *found[1:-1]],  # the advice is what most look for
            ops=[row for row in profile.ops if row.share >= 0.005],
            plots=[(curve, _path(curve, profile.wall_ms)) for curve in profile.memory],
            width=_WIDTH,
            height=_HEIGHT,
            facts=environment.collect(),
        )
    )


def _path(curve: Curve, wall_ms: float) -> str:
    """The curve as an SVG path in steps: memory stays as it is until the next event."""
    last = max(wall_ms, curve.points[-1][0]) or 1.0
    top = max(curve.peak_bytes, 1)
    low = min(0, *(used for _, used in curve.points))
    scale = _HEIGHT / (top - low)
    steps = [f"M0 {_HEIGHT + low * scale:.1f}"]
    steps += [f"H{t / last * _WIDTH:.1f}V{(top - used) * scale:.1f}" for t, used in curve.points]
    return "".join([*steps, f"H{_WIDTH}V{_HEIGHT}H0Z"])
