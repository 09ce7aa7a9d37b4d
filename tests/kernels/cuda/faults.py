"""Planted faults: each is a change of a kernel's text that a quick case must notice.

A test suite that a fault passes does not test what it says. Rows are added with each kernel.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.cuda import emulation


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        what: is broken, in words; the test's name.
        file: of ``kernels/cuda``, with its suffix.
        old: text that stands in it exactly once.
        new: what replaces it.
        case: passes on the right kernel, and must fail on the broken one.
    """

    what: str
    file: str
    old: str
    new: str
    case: Callable[[], None]


@contextmanager
def planted(fault: Fault, folder: Path) -> Iterator[None]:
    """Kernels within are built from sources that have the fault."""
    shutil.copytree(emulation.SOURCES / "cuda", folder / "cuda")
    (folder / "emulator").symlink_to(emulation.SOURCES / "emulator")
    file = folder / "cuda" / fault.file
    text = file.read_text(encoding="utf-8")
    found = text.count(fault.old)
    assert found == 1, f"{fault.what}: the old text stands {found} times in {fault.file}"
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    with emulation.sources(folder):
        yield
