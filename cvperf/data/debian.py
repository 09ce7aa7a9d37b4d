"""Packages of Debian, fetched by apt-get and unpacked by dpkg-deb; neither needs to be root."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cvperf.data.pinned import Package, PackageError, run_tool


@dataclass(frozen=True)
class DebianPackage(Package):
    """One pinned ``.deb``. Ubuntu builds the same source anew, so its file has another hash."""

    @property
    def requirement(self) -> str:
        return f"{self.name}={self.version}"

    def download(self, folder: Path) -> Path:
        command = ["apt-get", "download", "--quiet", self.requirement]
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            reason = "apt-get or dpkg-deb is not on this machine (they are part of Debian)"
            raise self.failed(command, reason, self._by_hand())
        succeeded, said = run_tool(command, folder)
        files = sorted(folder.glob("*.deb"))
        if not succeeded or len(files) != 1:
            lists = "where apt says that it knows no such package or version, its lists are absent "
            lists += "or old: run `apt-get update` as root once, then try again"
            raise self.failed(command, said, f"{lists}; or {self._by_hand()}")
        return files[0]

    def unpack(self, file: Path, folder: Path) -> None:
        # dpkg-deb refuses members that leave the folder by itself.
        succeeded, said = run_tool(["dpkg-deb", "-x", str(file), str(folder)])
        if not succeeded:
            raise PackageError(f"dpkg-deb could not unpack {file.name}: {said}")
        keep = (*self.keep, "*/copyright")
        for path in [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]:
            member = path.relative_to(folder).as_posix()
            if not any(fnmatch(member, pattern) for pattern in keep):
                path.unlink()

    @property
    def other_file_hint(self) -> str:
        return f"Another distribution builds a file of its own; {self._by_hand()}."

    def _by_hand(self) -> str:
        return (
            "take the files from elsewhere and give a data set their folder, "
            f"cvperf.data.load(..., root=FOLDER); or unpack the package into {self.folder}"
        )
