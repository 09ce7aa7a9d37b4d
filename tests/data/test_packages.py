"""Packages are fetched once, checked before they are opened, and never left half unpacked."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cvperf.data import packages
from cvperf.data.packages import PackageError
from cvperf.data.wheels import Wheel


def make_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return wheel


class Registry:
    """Stands in for pip and the index: hands out one wheel, and counts how often."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.downloads = 0

    def download(self, package: Wheel, folder: Path) -> Path:
        self.downloads += 1
        return Path(shutil.copy(self.wheel, folder))


def serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, members: dict[str, bytes], **changes: object
) -> Registry:
    """Make ``sample`` a known package whose wheel holds ``members``."""
    registry = Registry(make_wheel(tmp_path / "index", members))
    digest = hashlib.sha256(registry.wheel.read_bytes()).hexdigest()
    package = Wheel("sample", "1.0", digest, holds="samples", licence="MIT")
    monkeypatch.setitem(packages.PACKAGES, "sample", replace(package, **changes))  # type: ignore[arg-type]
    monkeypatch.setattr(Wheel, "download", lambda wheel, folder: registry.download(wheel, folder))
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path / "cache"))
    return registry


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "packages"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def test_second_fetch_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = serve(monkeypatch, tmp_path, {"sample/photo.png": b"pixels"})
    first = packages.fetch("sample")
    assert (first / "sample/photo.png").read_bytes() == b"pixels"
    registry.wheel.unlink()
    assert packages.fetch("sample") == first
    assert registry.downloads == 1


def test_only_kept_members_and_the_licence_are_unpacked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    members = {"sample/data/a.png": b"a", "sample/code.so": b"c", "s-1.dist-info/LICENSE": b"MIT"}
    serve(monkeypatch, tmp_path, members, keep=("sample/data/*",))
    folder = packages.fetch("sample")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"sample/data/a.png", "s-1.dist-info/LICENSE"}


def test_another_hash_is_refused_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, tmp_path, {"a": b"a"}, sha256="0" * 64)
    with pytest.raises(PackageError, match=r"sample-1\.0.*not opened.*expected 0000"):
        packages.fetch("sample")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("member", ["../escaped", "/escaped", "a/../../escaped"])
def test_member_outside_the_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, member: str
) -> None:
    serve(monkeypatch, tmp_path, {member: b"x"})
    with pytest.raises(PackageError, match="leaves its folder"):
        packages.fetch("sample")
    assert cached(tmp_path) == []
    assert not list(tmp_path.rglob("escaped"))


def test_killed_half_way_leaves_no_package_and_the_next_run_succeeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, tmp_path, {"sample/a": b"a", "sample/b": b"b"})

    def killed(package: Wheel, file: Path, folder: Path) -> None:
        (folder / "sample").mkdir(parents=True)
        (folder / "sample/a").write_bytes(b"a")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Wheel, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            packages.fetch("sample")
    assert cached(tmp_path) == []
    assert (packages.fetch("sample") / "sample/b").read_bytes() == b"b"


def test_two_processes_at_once_both_get_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, tmp_path, {"sample/a": b"a"})
    unpack = Wheel.unpack

    def overtaken(package: Wheel, file: Path, folder: Path) -> None:
        unpack(package, file, folder)
        monkeypatch.setattr(Wheel, "unpack", unpack)
        packages.fetch("sample")  # the other process publishes first

    monkeypatch.setattr(Wheel, "unpack", overtaken)
    folder = packages.fetch("sample")
    assert (folder / "sample/a").read_bytes() == b"a"
    assert cached(tmp_path) == [folder.name]


def test_failed_download_names_the_package_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CVPERF_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip runs for real, with no index to ask
    with pytest.raises(PackageError) as caught:
        packages.fetch("facenet-pytorch")
    message = str(caught.value)
    assert "facenet-pytorch==2.6.0" in message
    assert "pip download" in message
    assert "CVPERF_CACHE" in message


def test_unknown_package_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="facenet-pytorch"):
        packages.fetch("no-such-package")


def test_module_is_imported_from_the_cache_and_the_path_is_restored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(monkeypatch, tmp_path, {"cvperf_sample_module.py": b"answer = 42"})
    before = list(sys.path)
    module = packages.load_module("sample", "cvperf_sample_module")
    monkeypatch.delitem(sys.modules, "cvperf_sample_module")
    assert module.answer == 42
    assert sys.path == before


def test_every_package_is_pinned() -> None:
    for name, package in packages.PACKAGES.items():
        assert package.name == name
        assert len(package.sha256) == 64, name
        assert package.licence, name
