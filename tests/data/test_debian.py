"""Debian packages are fetched and unpacked by Debian's tools; where they are missing it is said."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.data import packages
from cvperf.data.debian import DebianPackage
from cvperf.data.packages import PackageError

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is on Debian and its relatives only"
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "cache"))


def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **scripts: str) -> None:
    """Make these shell scripts the only programs that are found by name, with dpkg-deb."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    real = [shutil.which(name) for name in ("dpkg-deb", "tar", "cp", "sh")]
    for path in filter(None, real):
        if not (folder / Path(path).name).exists():
            (folder / Path(path).name).symlink_to(path)
    monkeypatch.setenv("PATH", str(folder))


def make_deb(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("usr/share/datasets/a.gz", "usr/share/doc/sample/copyright", "usr/bin/program"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "DEBIAN").mkdir()
    fields = "Package: sample\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(fields)
    deb = tmp_path / "sample_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
    return deb


def pin(monkeypatch: pytest.MonkeyPatch, deb: Path) -> None:
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    package = DebianPackage("sample", "1", digest, "samples", "MIT", ("usr/share/datasets/*",))
    monkeypatch.setitem(packages.PACKAGES, "sample", package)


@needs_dpkg
def test_what_is_kept_and_the_licence_are_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deb = make_deb(tmp_path)
    pin(monkeypatch, deb)
    tools(monkeypatch, tmp_path, apt_get=f'test "$3" = sample=1 || exit 1; cp {deb} .')
    monkeypatch.chdir(tmp_path)
    folder = packages.fetch("sample")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"usr/share/datasets/a.gz", "usr/share/doc/sample/copyright"}


@needs_dpkg
def test_another_build_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deb = make_deb(tmp_path)
    pin(monkeypatch, deb)
    other = replace(packages.PACKAGES["sample"], sha256="0" * 64)
    monkeypatch.setitem(packages.PACKAGES, "sample", other)
    tools(monkeypatch, tmp_path, apt_get=f"cp {deb} .")
    with pytest.raises(PackageError, match=r"not opened(.|\n)*Another distribution"):
        packages.fetch("sample")


def test_absent_lists_are_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = 'echo "E: Unable to locate package dataset-fashion-mnist" >&2; exit 100'
    tools(monkeypatch, tmp_path, apt_get=said, dpkg_deb="exit 1")
    with pytest.raises(PackageError) as caught:
        packages.fetch("dataset-fashion-mnist")
    message = str(caught.value)
    assert "Unable to locate package" in message
    assert "apt-get update" in message
    assert "root=FOLDER" in message


def test_without_apt_the_error_names_the_folder_to_fill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError) as caught:
        packages.fetch("dataset-fashion-mnist")
    folder = packages.PACKAGES["dataset-fashion-mnist"].folder
    assert "is not on this machine" in str(caught.value)
    assert str(folder) in str(caught.value)
    folder.mkdir(parents=True)
    assert packages.fetch("dataset-fashion-mnist") == folder
