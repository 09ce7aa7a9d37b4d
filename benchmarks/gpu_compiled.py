"""What the GPU kernels that ship compile to, kept in files so that a page can show it.

``python -m cvperf.benchmarks.gpu --compile`` compiles everything, writes the files and then
docs/gpu.md; no GPU is needed. ``test_offline.py`` of each backend holds its file to the code.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.offline import Compiled
from cvperf.backends.gpu.shipped import Call

FILES = {name: f"kernels/{name}/compiled.jsonl" for name in ("triton", "cuda")}
"""Backend -> what its kernels compile to."""


@dataclass(frozen=True)
class Fact:
    """One compiled kernel of one shipped call.

    Attributes:
        op, call: which of ``shipped.calls()``.
        kernel: the kernel's name.
        capability: 90 for sm_90.
        registers: of a thread.
        shared: bytes of shared memory of a block.
        opcodes: notable instructions in it.
        share: predicted share of the roofline of the whole call.
    """

    op: str
    call: str
    kernel: str
    capability: int
    registers: int
    shared: int
    opcodes: tuple[str, ...]
    share: float


def facts(call: Call, capability: int, kernels: Iterable[Compiled]) -> list[Fact]:
    """What is kept of the kernels that a call compiled for an architecture."""
    share = float(f"{call.share(ARCHITECTURES[capability]):.3g}")
    return [
        Fact(
            *(call.op, call.name, one.kernel, capability, one.registers, one.shared, one.notable),
            share,
        )
        for one in kernels
    ]


def compiler(backend: str) -> str:
    """Name and version of a backend's compiler."""
    if backend == "triton":
        return f"triton {version('triton')}"
    from cvperf.backends.cuda import compiler

    return compiler.compiler()


def write(file: Path, backend: str) -> None:
    """Compile everything that a backend ships for every architecture."""
    shipped = importlib.import_module(f"cvperf.backends.{backend}.shipped")
    offline = importlib.import_module(f"cvperf.backends.{backend}.offline")
    lines = [json.dumps({"compiler": compiler(backend)})]
    for call in shipped.calls():
        for capability in ARCHITECTURES:
            with offline.compiling(capability) as kernels:
                call.run()
            lines += [json.dumps(asdict(fact)) for fact in facts(call, capability, kernels)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(file: Path) -> tuple[str, list[Fact]]:
    """The compiler's name and version, and the facts; none if nothing has been compiled."""
    if not file.exists():
        return "unknown", []
    head, *lines = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    return head["compiler"], [Fact(**{**line, "opcodes": tuple(line["opcodes"])}) for line in lines]


def rows(known: Iterable[Fact]) -> list[tuple[str, ...]]:
    """Op, kernel, architecture, variants, registers, shared memory, instructions, share."""
    groups: dict[tuple[str, str, int], list[Fact]] = {}
    for fact in known:
        groups.setdefault((fact.op, fact.kernel, fact.capability), []).append(fact)
    order = list(dict.fromkeys((op, kernel) for op, kernel, _ in groups))

    def place(op: str, kernel: str, capability: int) -> tuple[int, int]:
        return order.index((op, kernel)), capability

    return [
        (
            *(op, f"`{kernel}`", ARCHITECTURES[capability].name, str(len(its))),
            _range([one.registers for one in its]),
            _range([one.shared / 1024 for one in its]),
            " ".join(dict.fromkeys(opcode for one in its for opcode in one.opcodes)) or "none",
            _range([100 * one.share for one in its], _percent, " %"),
        )
        for (op, kernel, capability), its in sorted(groups.items(), key=lambda one: place(*one[0]))
    ]


def _range(
    values: Sequence[float], form: Callable[[float], str] = "{:.0f}".format, unit: str = ""
) -> str:
    if not values:
        return ""
    return " to ".join(dict.fromkeys(map(form, (min(values), max(values))))) + unit


def _percent(value: float) -> str:
    """Whole, or one digit that is not 0."""
    return f"{value:.0f}" if value >= 1 else f"{value:.1g}"
