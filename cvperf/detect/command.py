"""What the command ``cvperf detect`` does."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

import cvperf
from cvperf import files
from cvperf.data import Broken, PackageError, UnreadableImageError
from cvperf.data.sets.base import check_policy
from cvperf.detect import detectors, results, sources
from cvperf.detect.drawing import drawn, save
from cvperf.detect.finder import Finder
from cvperf.errors import ArgumentError

ERRORS = (ArgumentError, FileNotFoundError, ImportError, PackageError, UnreadableImageError)
"""Those that carry their own way out."""


def run(
    source: Path,
    output: Path,
    model: str,
    *,
    weights: Path | None = None,
    classes: Sequence[str] = (),
    threshold: float = 0.4,
    tile: int = 0,
    overlap: float = 0.2,
    broken: str = "skip",
    device: str = "cpu",
) -> None:
    """Detect in everything that a source has; pictures, ``detections.json``, one line of JSON.

    Args:
        source: an image, a folder of them, or a video.
        output: a folder, made if it is not there.
        model: as :func:`cvperf.detect.detectors.load` takes it; likewise ``weights``, ``classes``.
        threshold: score from which a detection counts.
        tile: pixels of a tile's side; 0: pictures are not cut.
        overlap: share of a tile's side that the next has as well.
        broken: what an image that cannot be read does: ``"skip"`` or ``"raise"``.
        device: where the model runs.

    Raises:
        ArgumentError: there is nothing at the source, no image in the folder, no such detector, or
            no such device.
        FileNotFoundError: there is no such file of weights.
        ImportError: a library is missing; the message names the extra.
        PackageError: a detector's package could not be fetched.
        UnreadableImageError: an image or a video cannot be read, and is not to be skipped, or none
            can.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ArgumentError(f"device must be cpu, or cuda where torch finds a GPU, got {device!r}")
    detector = detectors.load(model, weights, classes, threshold)
    detector.model.to(device)
    finder = Finder(detector, threshold, tile, overlap, device)
    print(json.dumps(detect(source, finder, output, broken)), flush=True)


def detect(source: Path, finder: Finder, output: Path, broken: str = "skip") -> dict[str, Any]:
    """:func:`run` with a detector that is at hand.

    Returns:
        numbers of images, of those left out, and of detections; seconds, images a second, the file.
    """
    check_policy(broken)
    started = time.perf_counter()
    work = _Work(finder, output, broken)
    with cvperf.use("conv2d", "nms", "roi_align"):
        if source.suffix.lower() in sources.VIDEOS:
            work.video(source)
        else:
            work.pictures(source)
    path = output / "detections.json"
    files.replace(path, json.dumps(work.entries) + "\n")
    seconds = time.perf_counter() - started
    return {
        "images": work.images,
        "left_out": work.left_out,
        "detections": len(work.entries),
        "seconds": round(seconds, 3),
        "images_per_second": round(work.images / seconds, 2),
        "results": str(path),
    }


class _Work:
    """What has been found so far."""

    def __init__(self, finder: Finder, output: Path, broken: str) -> None:
        self._finder, self._output, self._broken = finder, output, broken
        self.entries: list[dict[str, Any]] = []
        self.images = self.left_out = 0

    def pictures(self, source: Path) -> None:
        """Every image of a file or folder, drawn into ``pictures``."""
        found = sources.images_in(source, without=self._output)
        self._output.mkdir(parents=True, exist_ok=True)
        above = source if source.is_dir() else source.parent
        last = None
        for frame in _shown(sources.read(found, above), len(found)):
            if isinstance(frame, Broken):
                last = self._leave_out(frame)
            else:
                save(self._detect(frame), frame.name, self._output / "pictures")
        if not self.images and last is not None:
            raise UnreadableImageError(
                last.path, f"{last.reason}; none of {self.left_out} images could be read"
            )

    def video(self, source: Path) -> None:
        """Every frame of a video, drawn into another of the same rate."""
        video = sources.Video(source)
        self._output.mkdir(parents=True, exist_ok=True)
        with _writer(self._output / f"{source.stem}.mp4", video.rate) as write:
            for frame in _shown(video, video.frames):
                assert isinstance(frame, sources.Frame)
                write(np.asarray(self._detect(frame)))
        if not self.images:
            raise UnreadableImageError(str(source), "not one frame of it could be read")
        if self.images < video.frames:
            _say(f"{source}: {video.frames} frames by its header, {self.images} could be read")

    def _detect(self, frame: sources.Frame) -> Any:
        found, names = self._finder(frame.image), self._finder.detector.names
        self.images += 1
        self.entries += results.entries(found, frame, names)
        return drawn(frame.image, found, names)

    def _leave_out(self, image: Broken) -> Broken:
        if self._broken == "raise":
            raise UnreadableImageError(image.path, image.reason)
        self.left_out += 1
        _say(f"left out: {image.path}: {image.reason}")
        return image


def _shown(
    frames: Iterable[sources.Frame | Broken], total: int
) -> Iterator[sources.Frame | Broken]:
    """The frames, with a bar on standard error while they are worked on."""
    console = Console(stderr=True)
    bars = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} images/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    started = time.perf_counter()
    with bars:
        task = bars.add_task("", total=total or None, rate="")
        for done, frame in enumerate(frames, start=1):
            yield frame
            rate = f"{done / (time.perf_counter() - started):.1f}"
            bars.update(task, completed=done, rate=rate)


@contextmanager
def _writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that adds a frame, uint8 [H, W, 3], to a video that appears in the end."""
    cv2, writer = sources.opencv(), None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        written = Path(scratch) / path.name  # OpenCV goes by the ending

        def write(pixels: np.ndarray) -> None:
            nonlocal writer
            if writer is None:
                height, width = pixels.shape[:2]
                code = cv2.VideoWriter_fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(written), code, rate, (width, height))
                if not writer.isOpened():
                    raise ArgumentError(f"this OpenCV cannot write {path.name} (MPEG-4)")
            writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))

        yield write
        if writer is not None:
            writer.release()
            os.replace(written, path)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
