"""Small image files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def write(path: Path, color: tuple[int, int, int] = RED, size: tuple[int, int] = (8, 6)) -> Path:
    """A PNG (or what the name says) of one colour; ``size`` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def noise(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]: smooth enough to compress, rough enough to fill a file."""
    small = np.random.RandomState(seed).randint(0, 256, (height // 4, width // 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


def cut(path: Path, keep: float = 0.5) -> Path:
    """Keep the first part of a file only."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path
