"""npm's archives are fetched by npm pack and unpacked here; where npm is missing it is said."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.data import packages
from cvperf.data.npm import NpmPackage
from cvperf.data.packages import PackageError

NAME = "@scope/sample"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "cache"))


def serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *members: str, keep: tuple[str, ...] = ("*",)
) -> NpmPackage:
    """Make ``@scope/sample`` a known package, which a shell script in npm's place hands out."""
    archive = tmp_path / "index" / "scope-sample-1.0.0.tgz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as made:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            made.addfile(info, io.BytesIO(name.encode()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    package = NpmPackage(NAME, "1.0.0", digest, "samples", "MIT", keep)
    monkeypatch.setitem(packages.PACKAGES, NAME, package)
    program(monkeypatch, tmp_path, f'test "$4" = {NAME}@1.0.0 || exit 1; cp {archive} .')
    return package


def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Make a shell script npm."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")


def test_what_is_kept_and_the_licence_are_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    members = ("package/model/a.bin", "package/LICENSE", "package/index.js")
    serve(monkeypatch, tmp_path, *members, keep=("model/*",))
    folder = packages.fetch(NAME)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"model/a.bin", "LICENSE"}
    assert (folder / "model/a.bin").read_text() == "package/model/a.bin"
    assert folder.name.startswith("@scope+sample-1.0.0-")


@pytest.mark.parametrize("member", ["package/../../escaped", "../escaped", "/escaped"])
def test_a_member_outside_the_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, member: str
) -> None:
    serve(monkeypatch, tmp_path, member)
    with pytest.raises(PackageError, match="leaves its folder"):
        packages.fetch(NAME)
    assert not list(tmp_path.rglob("escaped"))


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = serve(monkeypatch, tmp_path, "package/a")
    monkeypatch.setitem(packages.PACKAGES, NAME, replace(package, sha256="0" * 64))
    with pytest.raises(PackageError, match=r"not opened(.|\n)*npm config get registry"):
        packages.fetch(NAME)


def test_what_npm_says_of_a_failure_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(monkeypatch, tmp_path, 'echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(PackageError) as caught:
        packages.fetch("@vladmandic/face-api")
    assert "npm error code ENOTFOUND" in str(caught.value)
    assert "npm pack" in str(caught.value)


def test_without_npm_the_error_names_the_folder_to_fill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError) as caught:
        packages.fetch("@vladmandic/face-api")
    folder = packages.PACKAGES["@vladmandic/face-api"].folder
    assert "npm is not on this machine" in str(caught.value)
    assert str(folder) in str(caught.value)
    folder.mkdir(parents=True)
    assert packages.fetch("@vladmandic/face-api") == folder
