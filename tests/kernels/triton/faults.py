"""Planted faults: each is a change of a kernel's text that a quick case must notice.

A test suite that a fault passes does not test what it says. Rows are added with each kernel.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PACKAGE = "cvperf.kernels.triton"
_count = itertools.count()


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        what: is broken, in words; the test's name.
        file: of ``kernels/triton``, without its suffix.
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
    """Every kernel module uses the broken functions; the right ones are back afterwards."""
    module = importlib.import_module(f"{PACKAGE}.{fault.file}")
    broken = vars(_variant(module, fault, folder))
    functions = {id(value): name for name, value in vars(module).items() if _own(value, module)}
    swaps = [
        (user, name, value)
        for user in [sys.modules[name] for name in list(sys.modules) if name.startswith(PACKAGE)]
        for name, value in list(vars(user).items())
        if id(value) in functions
    ]
    try:
        for user, name, value in swaps:
            setattr(user, name, broken[functions[id(value)]])
        yield
    finally:
        for user, name, value in swaps:
            setattr(user, name, value)


def _own(value: object, module: ModuleType) -> bool:
    """Whether it is a jit function that the module defines, and not one that it imports."""
    return getattr(getattr(value, "fn", None), "__module__", None) == module.__name__


def _variant(module: ModuleType, fault: Fault, folder: Path) -> ModuleType:
    """The module again from a file of its own (Triton reads a kernel's source from its file)."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    found = text.count(fault.old)
    assert found == 1, f"{fault.what}: the old text stands {found} times in {fault.file}.py"
    file = folder / f"{fault.file}_{next(_count)}.py"
    file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    return broken
