"""CLAHE gives OpenCV's answer to within one grey level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from cvperf.data.transforms import CLAHE, clahe
from cvperf.errors import ArgumentError


def gradient(height: int = 70, width: int = 90) -> torch.Tensor:
    """Dark on the left, with texture of a few greys everywhere."""
    noise = torch.randint(12, (height, width))
    return (torch.linspace(10, 120, width)[None] + noise).to(torch.uint8)


@pytest.mark.parametrize("size", [(64, 64), (70, 90), (64, 61), (28, 28)])
@pytest.mark.parametrize(("clip_limit", "tiles"), [(0.5, 8), (2.0, 8), (4.0, 4), (40.0, 7)])
def test_the_answer_is_opencvs(size: tuple[int, int], clip_limit: float, tiles: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is in the extra peers")
    grey = gradient(*size)
    expected = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(grey.numpy())
    answer = clahe(grey, clip_limit, tiles).numpy()
    assert np.abs(answer.astype(int) - expected).max() <= 1


def test_recorded_answers_of_opencv_are_met_where_it_is_not_installed() -> None:
    y, x = np.mgrid[:22, :19]
    grey = ((x * x + 3 * y * y + x * y * 5) // 9 % 160 + 20).astype(np.uint8)
    # cv2.createCLAHE(2.0, (4, 4)).apply(grey)[::4, ::3], of OpenCV 5.0.0
    recorded = [
        *([26, 31, 36, 38, 39, 56, 68], [58, 105, 116, 143, 146, 162, 173]),
        *([78, 132, 139, 144, 139, 170, 194], [102, 148, 161, 187, 229, 19, 60]),
        *([122, 195, 218, 31, 100, 150, 211], [176, 28, 83, 146, 175, 24, 104]),
    ]
    answer = clahe(torch.from_numpy(grey), 2.0, tiles=4)[::4, ::3]
    assert (answer.short() - torch.tensor(recorded)).abs().max() <= 1


def test_one_tile_without_limit_is_histogram_equalisation() -> None:
    grey = gradient()
    order = grey.flatten().sort().values
    below_or_same = torch.searchsorted(order, grey.flatten(), right=True).view_as(grey)
    expected = (below_or_same * (255 / grey.numel())).round()
    assert (clahe(grey, 256, tiles=1) - expected).abs().max() <= 1


def test_dark_parts_gain_contrast_and_a_low_limit_gives_less() -> None:
    dark = gradient()[:, :20]
    strong, weak = clahe(dark, 8, tiles=2).float().std(), clahe(dark, 1.5, tiles=2).float().std()
    assert strong > weak > 1.5 * dark.float().std()


def test_hues_stay() -> None:
    grey = gradient()
    image = tv_tensors.Image(torch.stack((grey + 40, grey + 20, grey)))
    changed = CLAHE()(image).short()
    inside = (changed > 0).all(0) & (changed < 255).all(0)
    assert inside.float().mean() > 0.3
    assert (changed[0] - changed[2])[inside].unique().tolist() == [40]
    assert not torch.equal(changed, image.short())


def test_what_cannot_be_tiled_is_refused() -> None:
    with pytest.raises(ArgumentError, match="too small for this many tiles"):
        clahe(gradient(3, 3), tiles=8)
    with pytest.raises(ArgumentError, match=r"uint8 \[H, W\].*float32"):
        clahe(gradient().float())
