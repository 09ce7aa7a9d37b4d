"""Results files as runs: rows that one installation on one machine measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvperf.bench import results
from cvperf.bench.results import Measurement, ResultsError

# Read anew by each process: they move with load, temperature and the days, and tell no two
# installations apart.
_MOVING = ("mhz", "clock", "date")


@dataclass(frozen=True)
class Run:
    """Rows that may stand in one table: no two of them time the same thing."""

    name: str
    """``"A"``, ``"B"``, ...; empty where there is only one run."""
    rows: tuple[Measurement, ...]

    @property
    def environment(self) -> Mapping[str, str]:
        """What the rows record; a value that moved within the run is given as all it was."""
        values: dict[str, list[str]] = {}
        for row in self.rows:
            for name, text in row.environment.items():
                seen = values.setdefault(name, [])
                if text not in seen:
                    seen.append(text)
        return {name: _several(texts) for name, texts in values.items()}

    @property
    def machine(self) -> str:
        """The GPU's or processor's name."""
        facts = self.environment
        return facts.get("gpu") or facts.get("cpu") or "unknown machine"


def load(paths: Sequence[Path]) -> tuple[Run, ...]:
    """The runs in files and folders.

    Files of one environment are one run, unless they measured the same thing twice.

    Raises:
        ResultsError: a file is not in the schema, times one contender twice on one case, or there
            is no row at all.
    """
    parts: list[tuple[tuple[tuple[str, str], ...], list[Measurement]]] = []
    for path in _files(paths):
        for identity, rows in _by_environment(results.read(path)).items():
            _refuse_duplicates(rows, path)
            for known, earlier in parts:
                if known == identity and not _timed(rows) & _timed(earlier):
                    earlier.extend(rows)
                    break
            else:
                parts.append((identity, rows))
    if not parts:
        raise ResultsError(
            f"no measurement in {', '.join(map(str, paths))}: write some with "
            "'cvperf bench kernels --out FILE.jsonl'"
        )
    names = _names(len(parts))
    return tuple(Run(name, tuple(rows)) for name, (_, rows) in zip(names, parts, strict=True))


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise ResultsError(f"{path} holds no .jsonl file")
        files.extend(file for file in inside if file not in files)
    return files


def _by_environment(
    rows: Iterable[Measurement],
) -> dict[tuple[tuple[str, str], ...], list[Measurement]]:
    groups: dict[tuple[tuple[str, str], ...], list[Measurement]] = {}
    for row in rows:
        facts = sorted(row.environment.items())
        identity = tuple(fact for fact in facts if not any(word in fact[0] for word in _MOVING))
        groups.setdefault(identity, []).append(row)
    return groups


def _timed(rows: Iterable[Measurement]) -> set[tuple[str, ...]]:
    """The keys that two files of one run may not share; each file has its own ceilings."""
    return {row.key for row in rows if row.status == "ok" and row.suite != "peaks"}


def _refuse_duplicates(rows: Sequence[Measurement], path: Path) -> None:
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.status != "ok" or row.suite == "peaks":
            continue
        if row.key in seen:
            raise ResultsError(
                f"{path} times {row.contender} on {row.suite} {row.op} {row.case} "
                f"({row.device}, {row.dtype}) twice: keep one run in a file"
            )
        seen.add(row.key)


def _names(count: int) -> list[str]:
    if count == 1:
        return [""]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [letters[i] if i < len(letters) else f"run {i + 1}" for i in range(count)]


def _several(texts: Sequence[str]) -> str:
    if len(texts) <= 3:
        return "; ".join(texts)
    return f"{texts[0]}; {texts[1]}; ... ({len(texts)} values)"
