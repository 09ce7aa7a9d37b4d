"""Compiled kernels on disk: made once by one process, and found by all that come after.

An entry is two files in the cache folder, ``KEY.cubin`` and ``KEY.json``, whose key is a hash of
everything that decides what a kernel compiles to. Each is written aside and then renamed, the
second names the first one's hash, and whoever compiles holds a lock of the entry meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from cvperf import files
from cvperf.backends.cuda.compiler import Binary, Request, compile_kernel
from cvperf.backends.cuda.kernel import Kernel

_unkept: set[Path] = set()


@dataclass(frozen=True)
class Entry:
    """What is told of a compiled kernel, in the file beside it.

    Attributes:
        file, name, fused: the kernel.
        architecture: such as ``sm_90a``.
        options: of the compiler.
        compiler: its name and version.
        symbol: the function's name in the code.
        seconds: that compiling took.
        bytes: of the code.
        sha256: of the code; an entry whose code has another is compiled anew.
        made: when, in seconds since 1970.
    """

    file: str
    name: str
    fused: bool
    architecture: str
    options: list[str]
    compiler: str
    symbol: str
    seconds: float
    bytes: int
    sha256: str
    made: float


def folder() -> Path:
    """Where compiled kernels are kept."""
    return files.cache_folder() / "cuda"


def binary(kernel: Kernel, capability: int) -> Binary:
    """A kernel compiled for a GPU of this capability: found on disk, or compiled now and kept.

    Where the folder cannot be written, a kernel is compiled by each process, with a warning.

    Raises:
        CompileError, UnsupportedError: as ``compile_kernel``.
    """
    request = Request.of(kernel, capability)
    path = folder() / key(request)
    found = _read(path)
    if found is not None:
        return found
    with _alone(path):
        # Who held the lock before has made it, most likely.
        return _read(path) or _make(request, path)


def key(request: Request) -> str:
    """An entry's name: equal for two requests only if they compile to the same code."""
    decides = json.dumps([asdict(request), request.options], sort_keys=True)
    return hashlib.sha256(decides.encode()).hexdigest()[:32]


def entries() -> list[Entry]:
    """Every entry, by kernel and architecture."""
    found = []
    for path in folder().glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):  # broken: compiled anew when used
            found.append(_entry(path))
    return sorted(found, key=lambda one: (one.file, one.name, one.architecture))


def clear() -> int:
    """Remove every entry; how many there were."""
    paths = list(folder().glob("*.json"))
    for path in (*paths, *folder().glob("*.cubin"), *folder().glob("*.lock")):
        path.unlink(missing_ok=True)
    return len(paths)


def _read(path: Path) -> Binary | None:
    """The code of a whole entry; None if there is none."""
    try:
        entry, code = _entry(path), path.with_suffix(".cubin").read_bytes()
    except (OSError, ValueError, TypeError):
        return None
    return Binary(code, entry.symbol) if _hash(code) == entry.sha256 else None


def _entry(path: Path) -> Entry:
    """What stands beside the code; ValueError or TypeError if it is not what we wrote."""
    return Entry(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other thread or process makes this entry meanwhile, if the folder can hold a lock."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        _warn_unkept(path.parent, str(error))
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _make(request: Request, path: Path) -> Binary:
    start = time.perf_counter()
    made = compile_kernel(request)
    entry = Entry(
        *request.kernel,
        architecture=request.architecture,
        options=list(request.options),
        compiler=request.compiler,
        symbol=made.symbol,
        seconds=round(time.perf_counter() - start, 3),
        bytes=len(made.code),
        sha256=_hash(made.code),
        made=round(time.time()),
    )
    try:
        files.replace(path.with_suffix(".cubin"), made.code)
        files.replace(path.with_suffix(".json"), json.dumps(asdict(entry), indent=1))
    except OSError as error:  # a full disk, a folder that can only be read
        _warn_unkept(path.parent, str(error))
    return made


def _hash(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()


def _warn_unkept(where: Path, why: str) -> None:
    """Once for each folder."""
    if where in _unkept:
        return
    _unkept.add(where)
    warnings.warn(
        f"compiled CUDA kernels cannot be kept in {where} ({why}), so each process compiles them; "
        "name another folder by the environment variable CVPERF_CACHE",
        RuntimeWarning,
        stacklevel=3,
    )
