"""Files that appear whole or not at all, and the folder for those that can be made again."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def replace(path: Path, content: str | bytes) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, never half of one."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(aside, 0o644)  # mkstemp gives a file that only its owner can read
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


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
