"""The same code finds boxes of text in the maps of both networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvperf.benchmarks import text_detector


def test_boxes_are_around_what_is_over_the_threshold() -> None:
    pytest.importorskip("cv2")
    text = torch.zeros(1, 1, 64, 96)
    text[0, 0, 10:20, 30:70] = 0.9
    text[0, 0, 40:50, 5:15] = 0.31
    text[0, 0, 55:60, 50:90] = 0.29  # below the threshold
    text[0, 0, 0:2, 0:2] = 1.0  # a speck
    assert text_detector.boxes(text) == [(5, 40, 10, 10), (30, 10, 40, 10)]


def test_a_page_is_scaled_to_the_detectors_sizes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "page.png"
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[..., 0] = 255
    image.fromarray(pixels).save(file)
    page = text_detector.page(file)
    assert page.shape == (1, 3, 736, 2208)
    assert page[0, 0].min() == 1.0
    assert page[0, 1].max() == -1.0
