"""What a profile says, as titled tables; the terminal, the page and the Markdown all show these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cvperf.profiler.advisor import Advice, Line
from cvperf.profiler.calls import FAMILIES
from cvperf.profiler.session import Profile
from cvperf.profiler.tables import Row
from cvperf.profiler.trace import PASS

_LAYER_SHARE = 0.01


@dataclass
class Section:
    """A heading, sentences, and a table; a column whose heading begins with ``>`` is of numbers."""

    title: str
    headings: tuple[str, ...] = ()
    rows: list[list[str]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    """Sentences before the table."""
    after: list[str] = field(default_factory=list)
    """Sentences behind it."""
    code: str = ""


def sections(profile: Profile, limit: int) -> list[Section]:
    """Everything, the tables of ops and calls cut to ``limit`` rows."""
    found = [
        _summary(profile),
        _ops(profile, limit),
        _layers(profile, limit),
        _calls(profile, limit),
    ]
    found += [_memory(profile)] if profile.memory else []
    found += [_gpu(profile, limit)] if profile.gpu else []
    return [*found, _advice(profile.advice)]


def text(profile: Profile, limit: int = 12) -> str:
    """The sections as plain text."""
    return "\n\n".join(_plain(section) for section in sections(profile, limit))


def _summary(profile: Profile) -> Section:
    passes = f"{profile.passes} pass" + ("" if profile.passes == 1 else "es")
    times = (
        f"{ms(profile.wall_ms)} ms a pass, the median of unprofiled runs; shares from {passes} "
        "with the profiler"
        if profile.unprofiled
        else f"{ms(profile.wall_ms)} ms, with the profiler's own cost in it"
    )
    notes = [*profile.notes, f"{profile.threads} thread" + ("" if profile.threads == 1 else "s")]
    return Section(f"profile of {profile.target}", text=[times, ", ".join(notes)])


def _ops(profile: Profile, limit: int) -> Section:
    # The ops that cvperf has kernels for are named however short they are.
    rows = [
        row
        for place, row in enumerate(profile.ops)
        if place < limit or row.name in FAMILIES.values()
    ]
    rest = [row for row in profile.ops if row not in rows]
    table = [
        [row.name, str(row.calls), ms(row.ms), percent(row.share), percent(row.roofline_share)]
        for row in rows
    ]
    if rest:
        share = sum(row.share for row in rest)
        calls = str(sum(row.calls for row in rest))
        table.append([f"{len(rest)} more", calls, ms(sum(r.ms for r in rest)), percent(share), "-"])
    return Section(
        "time by op",
        ("op", ">calls", ">ms", ">share", ">of roofline"),
        table,
        after=[
            "Of roofline: the least time that this machine's measured ceilings allow, over the "
            "time taken; - where the work is not counted."
        ],
    )


def _layers(profile: Profile, limit: int) -> Section:
    longest = sorted(profile.layers, key=lambda row: -row.share)[: 2 * limit]
    shown = [row for row in profile.layers if row in longest and row.share >= _LAYER_SHARE]
    return Section(
        "time by layer",
        ("layer", "class", ">calls", ">ms", ">share", ">own ops ms"),
        [
            [
                _indented(row, shown, profile),
                row.kind,
                str(row.calls),
                ms(row.ms),
                percent(row.share),
                ms(row.self_ms),
            ]
            for row in shown
        ],
        after=[f"{len(profile.layers) - len(shown)} shorter layers are in profile.json."],
    )


def _calls(profile: Profile, limit: int) -> Section:
    rows = [call for call in profile.calls if call.shapes][:limit]
    return Section(
        "calls of the ops that cvperf has kernels for",
        ("op", "call", ">calls", ">ms", ">of roofline", "first layer"),
        [
            [
                call.family,
                call.text,
                str(len(call.us)),
                ms(call.ms),
                percent(profile.roofline_share(call)),
                _short(call.layers[0], profile) if call.layers[0] != PASS else "-",
            ]
            for call in rows
        ],
    )


def _memory(profile: Profile) -> Section:
    lines = []
    for curve in profile.memory:
        place = " in ".join(
            part for part in (curve.peak_op, _short(curve.peak_layer, profile)) if part
        )
        lines.append(
            f"{curve.device}: at most {curve.peak_bytes / 2**20:.1f} MiB above the start, "
            f"{curve.peak_ms:.1f} ms after it" + (f", during {place}" if place else "")
        )
    return Section("memory over time", text=lines)


def _gpu(profile: Profile, limit: int) -> Section:
    gpu = profile.gpu
    assert gpu is not None
    total = gpu.busy_ms + gpu.idle_ms
    lines = [
        f"{gpu.launches} kernel launches; busy {ms(gpu.busy_ms)} ms, idle between kernels "
        f"{ms(gpu.idle_ms)} ms ({percent(gpu.idle_ms / total if total else 0.0)})"
    ]
    lines += [
        f"gap of {gap.us:.0f} us before {gap.before[:60]}"
        + (f", launched by {_short(gap.layer, profile)}" if gap.layer else "")
        for gap in gpu.gaps[:3]
    ]
    return Section(
        "GPU kernels",
        ("kernel", ">launches", ">ms", ">share", ">occupancy"),
        [
            [
                row.name[:100],
                str(row.calls),
                ms(row.ms),
                percent(row.share),
                "-" if row.occupancy is None else f"{row.occupancy:.0f} %",
            ]
            for row in gpu.kernels[:limit]
        ],
        lines,
        ["Occupancy is torch.profiler's estimate from the launch, not a hardware counter."],
    )


def _advice(advice: Advice) -> Section:
    rows = [
        [
            line.name,
            f"{line.served_calls} of {line.calls}",
            f"{ms(line.served_ms)} of {ms(line.ms)}",
            "-" if line.ratio is None else f"{line.ratio:.2f}x",
            ms(line.saving_ms),
            percent(line.saving_ms / advice.wall_ms if advice.wall_ms else 0.0),
        ]
        for line in advice.lines
    ]
    section = Section(
        "what cvperf would serve",
        ("op", ">calls served", ">ms served", ">ratio", ">saves ms", ">of the pass"),
        rows,
        code=advice.code,
    )
    if not advice.lines:
        section.text.append("Nothing: no op was called that cvperf.use overrides.")
        return section
    section.text.append(
        f"Ratios from the ledger {advice.ledger}."
        if advice.saving_ms
        else f"Ledger: {advice.ledger}."
    )
    section.after += [
        f"{line.name}: ratio read from {_several(line.cases)}"
        for line in advice.lines
        if line.cases
    ]
    section.after += [text for line in advice.lines for text in _left(line)]
    section.after += list(advice.notes)
    if advice.names:
        section.after.append(
            f"Predicted: {ms(advice.saving_ms)} ms of {ms(advice.wall_ms)} saved "
            f"({percent(advice.share)}). Lines to add:"
        )
    else:
        section.after.append("No saving is predicted: leave the model as it is.")
    return section


def _left(line: Line) -> list[str]:
    return [
        f"{line.name}: torch keeps {count} calls ({ms(spent)} ms): {reason}"
        for reason, (count, spent) in line.reasons.items()
    ]


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(name: str, profile: Profile) -> str:
    """A layer's name without the model's class, where the profile has one model."""
    modules = [row for row in profile.layers if row.name in profile.classes]
    roots = {row.name.split(".")[0] for row in modules}
    root, _, path = name.partition(".")
    return path if path and len(roots) == 1 and root in roots else name


def _indented(row: Row, shown: Sequence[Row], profile: Profile) -> str:
    """The path from the nearest layer shown above it, indented by how many there are."""
    above = [other.name for other in shown if row.name.startswith(f"{other.name}.")]
    if not above:
        return _short(row.name, profile)
    return "  " * len(above) + row.name[len(max(above, key=len)) + 1 :]


def ms(milliseconds: float) -> str:
    """Three significant digits, and no more than three decimals."""
    size = abs(milliseconds)
    decimals = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{milliseconds:,.{decimals}f}"


def percent(share: float | None) -> str:
    """``12.3 %``; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _plain(section: Section) -> str:
    lines = [section.title, "-" * len(section.title), *section.text]
    if section.rows:
        heads = [heading.removeprefix(">") for heading in section.headings]
        right = [heading.startswith(">") for heading in section.headings]
        table = [heads, *section.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
        lines += [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in table
        ]
    lines += section.after
    return "\n".join([*lines, *(["", section.code] if section.code else [])])
