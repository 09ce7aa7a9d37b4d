"""Pictures to detect in: a file, the files of a folder, or the frames of a video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cvperf.data import Broken, UnreadableImageError, read_image
from cvperf.data.images import EXTENSIONS
from cvperf.errors import ArgumentError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Endings of the files that count as videos; in lower case."""


class Frame(NamedTuple):
    """A picture, uint8 [3, H, W], and where it comes from."""

    image: Tensor
    name: str
    """The file's, relative to the folder that was searched."""
    number: int
    """From 1, within the folder or the video."""


def images_in(path: Path, without: Path | None = None) -> list[Path]:
    """The file itself, or every image in a folder and below, sorted.

    Args:
        path: of a file or a folder.
        without: a folder that is left out: of answers, which may lie in the one that is searched.

    Raises:
        ArgumentError: there is nothing at ``path``, or no image in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ArgumentError(f"{path}: no such file or folder")
    files: list[Path] = []
    for root, folders, names in os.walk(path):
        folders[:] = [name for name in folders if without is None or not _same(root, name, without)]
        files += [Path(root, name) for name in names if name.lower().endswith(EXTENSIONS)]
    if not files:
        raise ArgumentError(f"{path} has no images ({', '.join(EXTENSIONS)})")
    return sorted(files)


def read(files: list[Path], above: Path) -> Iterator[Frame | Broken]:
    """Each image, or what is wrong with it.

    Args:
        files: the images.
        above: the folder that their names are relative to.
    """
    for number, file in enumerate(files, start=1):
        try:
            image = read_image(file).as_subclass(Tensor)
        except UnreadableImageError as error:
            yield Broken(error.path, error.reason)
        else:
            yield Frame(image, str(file.relative_to(above)), number)


class Video:
    """The frames of a video file, one by one.

    Args:
        path: the file.

    Attributes:
        frames: how many there are by its header, which may be wrong; 0 where it does not say.
        rate: frames a second.

    Raises:
        ImportError: OpenCV is not installed.
        UnreadableImageError: OpenCV cannot read it.
    """

    def __init__(self, path: Path) -> None:
        cv2 = opencv()
        self._path = path
        self._opened = cv2.VideoCapture(str(path))
        if not path.is_file() or not self._opened.isOpened():
            reason = "no video that OpenCV can read" if path.is_file() else "no such file"
            raise UnreadableImageError(str(path), reason)
        self.rate: float = self._opened.get(cv2.CAP_PROP_FPS) or 25.0
        self.frames = max(0, int(self._opened.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Frame]:
        cv2, number = opencv(), 0
        while True:
            there, pixels = self._opened.read()
            if not there:
                self._opened.release()
                return
            number += 1
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            yield Frame(torch.from_numpy(rgb).permute(2, 0, 1), self._path.name, number)


def opencv() -> Any:
    """OpenCV's module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError("videos need OpenCV: pip install 'cvperf[video]'") from error
    return cv2


def _same(root: str, name: str, other: Path) -> bool:
    return Path(root, name).resolve() == other.resolve()
