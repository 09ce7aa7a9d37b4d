"""``cvperf detect``: what it writes, what it says, and what it does about files it cannot read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from cvperf.cli import app
from cvperf.data import UnreadableImageError
from cvperf.data.photos import photo
from cvperf.data.sets.coco import mask_library
from cvperf.detect import command, detectors
from cvperf.detect.command import detect
from cvperf.detect.detectors import Detector
from cvperf.detect.finder import Finder
from cvperf.errors import ArgumentError


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """See ``one_thread``."""


class Reds(nn.Module):
    """Stands in for a detector: the box of what is red, surely, and another, hardly."""

    def __init__(self, masks: bool = False) -> None:
        super().__init__()
        self.masks = masks
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        self.seen += [tuple(image.shape) for image in images]
        return [self.find(image) for image in images]

    def find(self, image: Tensor) -> dict[str, Tensor]:
        red = (image[0] > 0.8) & (image[1] < 0.2)
        found = {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "scores": torch.zeros(0),
        }
        if red.any():
            rows, columns = red.nonzero(as_tuple=True)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes = torch.tensor([[float(side) for side in box], [0.0, 0.0, 4.0, 4.0]])
            found = {
                "boxes": boxes,
                "labels": torch.tensor([1, 2]),
                "scores": torch.tensor([0.9, 0.1]),
            }
        if self.masks:
            found["masks"] = torch.stack([red.float()[None]] * len(found["boxes"]))
        return found


BOX = (20, 10, 50, 30)


def finder(**options: Any) -> Finder:
    return Finder(Detector(Reds(options.pop("masks", False)), {1: "red thing"}), **options)


def with_a_red_thing(size: tuple[int, int] = (96, 64)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    image.paste("red", BOX)
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures with a red thing, one without, a broken one, and a file that is none."""
    path = tmp_path / "photos"
    (path / "below").mkdir(parents=True)
    with_a_red_thing().save(path / "a.png")
    with_a_red_thing().save(path / "below" / "b.webp", lossless=True)
    Image.new("RGB", (40, 40), "blue").save(path / "c.jpg")
    (path / "d.jpg").write_bytes((path / "c.jpg").read_bytes()[:200])
    (path / "notes.txt").write_text("none")
    return path


def test_a_folder_gives_pictures_and_results(folder: Path, tmp_path: Path) -> None:
    told = detect(folder, finder(), tmp_path / "out")
    assert (told["images"], told["left_out"], told["detections"]) == (3, 1, 2)
    files = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*")}
    pictures = {"pictures/a.png", "pictures/below/b.webp.png", "pictures/c.jpg"}
    assert files == {"detections.json", *pictures}
    entries = json.loads(Path(told["results"]).read_text())
    assert entries[0] == {
        "image_id": 1,
        "file_name": "a.png",
        "category_id": 1,
        "category_name": "red thing",
        "bbox": [20.0, 10.0, 30.0, 20.0],
        "score": 0.9,
    }
    assert [entry["file_name"] for entry in entries] == ["a.png", "below/b.webp"]


def test_a_box_is_drawn_around_and_a_picture_without_one_is_as_it_was(
    folder: Path, tmp_path: Path
) -> None:
    detect(folder, finder(), tmp_path / "out")
    before, after = (
        np.asarray(Image.open(path)) for path in (folder / "a.png", tmp_path / "out/pictures/a.png")
    )
    changed = (before != after).any(2)
    assert changed[BOX[1], BOX[0] : BOX[2]].all()  # the upper edge
    assert not changed[18:22, 30:40].any()  # the inside
    assert not changed[50:].any()  # far below
    blue = np.asarray(Image.open(tmp_path / "out/pictures/c.jpg")).reshape(-1, 3)
    assert (blue.mean(0) - [0, 0, 254] < 3).all()


def test_results_are_what_cocos_tools_read(folder: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("faster_coco_eval").COCO
    told = detect(folder, finder(), tmp_path / "out")
    truth = {
        "images": [{"id": 1, "width": 96, "height": 64}, {"id": 2, "width": 96, "height": 64}],
        "categories": [{"id": 1, "name": "red thing"}],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    loaded = coco(str(tmp_path / "truth.json")).loadRes(told["results"])
    assert [one["area"] for one in loaded.anns.values()] == [600, 600]


def test_masks_are_run_lengths_and_tint_the_picture(folder: Path, tmp_path: Path) -> None:
    told = detect(folder / "a.png", finder(masks=True), tmp_path / "out")
    (entry,) = json.loads(Path(told["results"]).read_text())
    assert entry["segmentation"]["size"] == [64, 96]
    mask = mask_library().decode(entry["segmentation"])
    expected = np.zeros((64, 96), np.uint8)
    expected[10:30, 20:50] = 1
    np.testing.assert_array_equal(mask, expected)
    inside = np.asarray(Image.open(tmp_path / "out/pictures/a.png"))[20, 35]
    assert inside[0] < 255
    assert inside[1] > 50  # no longer pure red


def test_what_cannot_be_read_is_named_with_the_reason(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect(folder, finder(), tmp_path / "out")
    said = capsys.readouterr().err
    assert f"left out: {folder / 'd.jpg'}: " in said
    assert "truncated" in said.lower()
    with pytest.raises(UnreadableImageError, match=r"(?i)d\.jpg: .*truncated"):
        detect(folder, finder(), tmp_path / "raised", broken="raise")
    with pytest.raises(ArgumentError, match='broken must be "skip" or "raise"'):
        detect(folder, finder(), tmp_path / "other", broken="no")


def test_nothing_that_can_be_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="none of 1 images could be read"):
        detect(folder / "d.jpg", finder(), tmp_path / "out")
    assert not (tmp_path / "out/detections.json").exists()
    with pytest.raises(UnreadableImageError, match=r"notes\.txt: no image that Pillow can read"):
        detect(folder / "notes.txt", finder(), tmp_path / "out")


def test_an_empty_folder_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"empty has no images \(\.jpg, "):
        detect(tmp_path / "empty", finder(), tmp_path / "out")
    with pytest.raises(ArgumentError, match="nowhere: no such file or folder"):
        detect(tmp_path / "nowhere", finder(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_within_the_folder_are_not_searched_again(folder: Path) -> None:
    for _ in range(2):
        assert detect(folder, finder(), folder / "out")["images"] == 3


def test_a_run_that_ends_early_leaves_the_old_results(folder: Path, tmp_path: Path) -> None:
    detect(folder, finder(), tmp_path / "out")
    before = (tmp_path / "out/detections.json").read_text()
    model = Reds()
    stopped = Finder(Detector(model, {}))

    def ends(*_: Any) -> None:
        if len(model.seen) == 2:
            raise KeyboardInterrupt

    model.register_forward_hook(ends)
    with pytest.raises(KeyboardInterrupt):
        detect(folder, stopped, tmp_path / "out")
    assert (tmp_path / "out/detections.json").read_text() == before
    assert not list((tmp_path / "out").rglob(".*"))


def test_large_pictures_are_cut_into_tiles(tmp_path: Path) -> None:
    with_a_red_thing((200, 150)).save(tmp_path / "large.png")
    found = finder(tile=100, overlap=0.5)
    told = detect(tmp_path / "large.png", found, tmp_path / "out")
    assert told["detections"] == 1
    assert set(found.detector.model.seen) == {(3, 100, 100), (3, 150, 200)}  # type: ignore[arg-type]


def test_the_threshold_decides_what_counts(folder: Path, tmp_path: Path) -> None:
    assert detect(folder / "a.png", finder(threshold=0.05), tmp_path / "a")["detections"] == 2
    assert detect(folder / "a.png", finder(threshold=0.95), tmp_path / "b")["detections"] == 0
    entries = json.loads((tmp_path / "a/detections.json").read_text())
    assert entries[1]["category_name"] == "2"  # a label without a name is its number


def a_video(path: Path, frames: int) -> Path:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is in the extra video")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (96, 64))
    for _ in range(frames):
        writer.write(np.asarray(with_a_red_thing())[:, :, ::-1].copy())
    writer.release()
    return path


def test_a_video_gives_a_video_and_an_id_a_frame(tmp_path: Path) -> None:
    told = detect(a_video(tmp_path / "film.avi", 5), finder(), tmp_path / "out")
    assert (told["images"], told["detections"]) == (5, 5)
    entries = json.loads(Path(told["results"]).read_text())
    assert [entry["image_id"] for entry in entries] == [1, 2, 3, 4, 5]
    assert {entry["file_name"] for entry in entries} == {"film.avi"}
    assert np.abs(np.asarray(entries[0]["bbox"]) - [20, 10, 30, 20]).max() < 3  # of a JPEG
    from cvperf.detect.sources import Video

    made = Video(tmp_path / "out/film.mp4")
    assert made.rate == pytest.approx(10)
    assert [tuple(frame.image.shape) for frame in made] == [(3, 64, 96)] * 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"film.mp4", "detections.json"}


def test_a_video_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is in the extra video")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableImageError, match=r"film\.mp4: no video that OpenCV can read"):
        detect(tmp_path / "film.mp4", finder(), tmp_path / "out")
    with pytest.raises(UnreadableImageError, match=r"none\.mp4: no such file"):
        detect(tmp_path / "none.mp4", finder(), tmp_path / "out")


def test_without_opencv_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install 'cvperf\[video\]'"):
        detect(tmp_path / "film.mp4", finder(), tmp_path / "out")


def test_the_command_ends_with_a_line_of_json(tmp_path: Path) -> None:
    photo("astronaut").save(tmp_path / "astronaut.png")
    arguments = ["detect", str(tmp_path / "astronaut.png"), "--model", "mtcnn"]
    answer = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout.splitlines()[-1])
    assert told["detections"] == told["images"] == 1
    (entry,) = json.loads((tmp_path / "out/detections.json").read_text())
    assert entry["category_name"] == "face"
    assert entry["bbox"] == pytest.approx([181.05, 62.16, 86.7, 109.89], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "fasterrcnn_resnet"], "no detector 'fasterrcnn_resnet'"),
        (["--model", "ssd300_vgg16"], "ssd300_vgg16 needs a file of weights"),
        (["--model", "mtcnn", "--classes", "cat"], "mtcnn has weights and classes of its own"),
        (["--model", "ssd300_vgg16", "--weights", "none.pth"], "none.pth"),
        (["--model", "mtcnn"], "nothing.png: no such file or folder"),
        (["--model", "mtcnn", "--device", "no-such"], "device must be"),
    ],
)
def test_errors_are_a_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    answer = CliRunner().invoke(app, ["detect", "nothing.png", *arguments])
    assert answer.exit_code == 2
    assert said in answer.output
    assert "Traceback" not in answer.output


def test_the_command_loads_no_torchvision_before_it_is_needed() -> None:
    code = "import sys, cvperf.detect.command; print('torchvision' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_what_is_missing_for_detectors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cvperf\[cli,models\]'"):
        command.run(Path("a.png"), Path("out"), "mtcnn")
