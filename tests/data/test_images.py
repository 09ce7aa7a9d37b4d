"""Every sort of image file becomes uint8 pixels; damage is named, whatever the damage."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cvperf.data.images import UnreadableImageError, read_image
from cvperf.errors import ArgumentError
from tests.data.pictures import cut, noise


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def middle(path: Path, **options: object) -> list[int]:
    image = read_image(path, **options)  # type: ignore[arg-type]
    assert image.dtype == torch.uint8
    return image[:, image.shape[1] // 2, image.shape[2] // 2].tolist()


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "YCbCr", "LAB", "RGBA", "RGBX"])
def test_colour_survives_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (9, 7), (200, 60, 40))
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", (9, 7), value) for value in (113, 183, 167)])
    image = image.quantize() if mode == "P" else image.convert(mode)
    path = saved(tmp_path / ("a.gif" if mode == "P" else "a.tif"), image)
    red, green, blue = middle(path)
    assert max(abs(red - 200), abs(green - 60), abs(blue - 40)) <= 10


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "I", "F", "LA"])
def test_grey_survives_every_mode(tmp_path: Path, mode: str) -> None:
    white = {"I;16": 65535, "I": 65535, "F": 1.0, "LA": (255, 255)}.get(mode, 255)
    path = saved(tmp_path / "a.tif", Image.new(mode, (9, 7), white))
    assert middle(path) == [255, 255, 255]
    assert middle(path, color="L") == [255]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    pixels = np.array([[0, 257, 32896, 65535]], np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    assert read_image(path, "L").flatten().tolist() == [0, 1, 128, 255]


def test_transparent_pixels_show_white_in_each_mode_that_has_them(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert middle(saved(tmp_path / "rgba.png", clear)) == [255] * 3
    palette = Image.new("P", (4, 4), 0)
    assert middle(saved(tmp_path / "palette.png", palette, transparency=0)) == [255] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(noise(12, 20))
    undo = {
        **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
        **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE},
        **{6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE},
        **{8: Image.Transpose.ROTATE_270},
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", stored, exif=exif)
    assert np.array_equal(read_image(path).numpy().transpose(1, 2, 0), np.asarray(upright))


def test_the_size_that_annotations_name_decides_whether_to_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (20, 12)), exif=exif)
    assert read_image(path).shape == (3, 20, 12)
    assert read_image(path, size=(20, 12)).shape == (3, 20, 12)
    assert read_image(path, size=(12, 20)).shape == (3, 12, 20)
    with pytest.raises(UnreadableImageError, match=r"is 20x12 .*, expected 5x5"):
        read_image(path, size=(5, 5))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "bmp", "gif"])
def test_a_truncated_file_is_named_with_the_reason(tmp_path: Path, ending: str) -> None:
    path = cut(saved(tmp_path / f"a.{ending}", Image.fromarray(noise())))
    with pytest.raises(UnreadableImageError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.reason) > 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"no image at all", "no image"), (None, "no such file")],
)
def test_what_is_no_image_is_said_so(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "AVIF", "PPM"])
@pytest.mark.filterwarnings("ignore")
def test_random_damage_raises_nothing_else(format: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, format)
    random = np.random.RandomState(0)
    refused = 0
    for trial in range(30):
        content = bytearray(stream.getvalue())
        for place in random.randint(0, min(len(content), 300), random.randint(1, 6)):
            content[place] = random.randint(256)
        if trial % 3 == 0:
            del content[random.randint(len(content)) :]
        try:
            read_image("a", content=bytes(content))
        except UnreadableImageError:
            refused += 1
    assert refused


def test_a_picture_too_large_to_be_one_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImageError, match="pixels"):
        read_image(path)


def test_the_error_comes_back_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.jpg", "is empty")))
    assert (error.path, error.reason) == ("a.jpg", "is empty")


def test_floats_beyond_grey_levels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.full((4, 4), 1e4, np.float32)))
    with pytest.raises(UnreadableImageError, match="floats"):
        read_image(path)


def test_an_unknown_colour_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r'"RGB" or "L".*BGR'):
        read_image(tmp_path / "a.png", "BGR")  # type: ignore[arg-type]
