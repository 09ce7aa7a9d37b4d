"""Image files of every sort as uint8 pixels, and what is said of a file that cannot be read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cvperf.errors import ArgumentError, describe

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from torchvision.tv_tensors import Image

Color = Literal["RGB", "L"]
"""``"RGB"`` for three channels, ``"L"`` (Pillow's word) for one channel of grey."""

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
    *(".jp2", ".avif", ".tga"),
)
"""Endings of the files that count as images where a folder is searched; in lower case."""

# What Pillow's decoders raise on damaged files, found by damaging files of each format.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError),
    *(ArithmeticError, MemoryError, struct.error, zlib.error),
)


class UnreadableImageError(RuntimeError):
    """A file is missing, empty, truncated or no image; the message says which and names it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # so that it comes back from loader processes


def read_image(
    path: str | Path,
    color: Color = "RGB",
    *,
    content: bytes | None = None,
    size: tuple[int, int] | None = None,
) -> Image:
    """The image of a file as ``torchvision.tv_tensors.Image``, uint8 [3, H, W] or [1, H, W].

    It is turned as its EXIF orientation says. 16 bits become 8 by dividing by 257; floats are
    taken for 0 to 1, or for 0 to 255 where one is above 1; what is transparent shows white; of an
    animation the first frame counts.

    Args:
        path: the file.
        color: how many channels.
        content: the file's bytes, if they are at hand; ``path`` is then its name in messages.
        size: (height, width) that is expected. Where the stored picture has it and the turned one
            has not, it is not turned: annotations of some tools are of the stored picture.

    Raises:
        UnreadableImageError: the file cannot be read to its end, or has not that size.
    """
    try:
        import PIL.Image
        from torchvision import tv_tensors
    except ModuleNotFoundError as error:
        raise ImportError(
            "images need torchvision and Pillow: pip install 'cvperf[train]'"
        ) from error
    if color not in ("RGB", "L"):
        raise ArgumentError(f'color must be "RGB" or "L", got {describe(color)}')
    if content is None and not Path(path).is_file():
        raise UnreadableImageError(str(path), "no such file")
    try:
        with PIL.Image.open(path if content is None else io.BytesIO(content)) as opened:
            opened.load()  # all of it: a truncated file shows only now
            pixels = _to_8_bits(_turned(opened, size), color)
    except (*_DAMAGE, PIL.Image.DecompressionBombError) as error:
        raise UnreadableImageError(str(path), _reason(path, content, error)) from error
    if size is not None and pixels.shape[:2] != size:
        reason = f"is {pixels.shape[0]}x{pixels.shape[1]} (height x width), expected {size[0]}x"
        raise UnreadableImageError(str(path), f"{reason}{size[1]}")
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return tv_tensors.Image(planes.copy(order="C"))  # Pillow's own memory is read-only


def _turned(image: PilImage, size: tuple[int, int] | None) -> PilImage:
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(image)
    if size is not None and (turned.height, turned.width) != size == (image.height, image.width):
        return image
    return turned


def _to_8_bits(image: PilImage, color: Color) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W] of an image of any of Pillow's modes."""
    if image.mode.startswith(("I", "F")):
        image = _scaled(np.asarray(image))
    if image.has_transparency_data:
        image = _on_white(image.convert("RGBA"))
    if image.mode == "LAB":
        image = _from_lab(image)
    return np.asarray(image if image.mode == color else image.convert(color))


def _scaled(values: np.ndarray) -> PilImage:
    import PIL.Image

    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            raise ValueError("its floats are not all within 0 and 255; rescale it")
        scaled = values * (255 if values.max() <= 1 else 1)
    elif values.min() < 0 or values.max() > 65535:
        raise ValueError("its integers are not all of 16 bits; rescale it")
    else:
        scaled = values / 257
    return PIL.Image.fromarray(scaled.round().astype(np.uint8))


def _on_white(image: PilImage) -> PilImage:
    import PIL.Image

    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image).convert("RGB")


def _from_lab(image: PilImage) -> PilImage:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    assert converted is not None  # it is None only where the image is changed in place
    return converted


def _reason(path: str | Path, content: bytes | None, error: BaseException) -> str:
    from PIL import UnidentifiedImageError

    if (Path(path).stat().st_size if content is None else len(content)) == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow can read"
    return str(error) or type(error).__name__
