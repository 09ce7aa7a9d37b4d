"""Files that appear whole or not at all, and the folder for those that can be made again."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place in the end.

    A reader sees the old file or the new one, never half of one.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)  # mkstemp gives a file that only its owner can read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def replace(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    with aside(path) as written:
        written.write_bytes(content.encode() if isinstance(content, str) else content)


def cache_folder() -> Path:
    """``$CVPERF_CACHE``, or ``cvperf`` in the platform's cache folder of this user."""
    if chosen := os.environ.get("CVPERF_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cvperf"
