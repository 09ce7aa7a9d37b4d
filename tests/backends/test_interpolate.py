"""Resizing's native calls: torch's positions, torch's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvperf.backends.cpu.interpolate import interpolate_call
from cvperf.errors import ArgumentError
from tests.backends.call_runs import cases_for, channels_last, random_image, run_call

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
BYTES = [torch.int8, torch.uint8]
CHANNELS = [1, 3, 16, 17, 67, 512]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}

SIZES: list[dict[str, Any]] = [
    {"size": (14, 22)},
    {"size": (7, 11)},
    {"size": (1, 1)},
    {"size": (20, 5)},
    {"size": (3, 40)},
    {"scale_factor": (2.0, 2.0)},
    {"scale_factor": (1.7, 0.6)},
    {"scale_factor": (0.4, 3.3)},
]
# Height, width, what they are resized to.
IMAGES = [(7, 11, SIZES), (1, 1, SIZES[:1]), (1, 6, SIZES[4:6])]


def resized(
    image: torch.Tensor,
    mode: str,
    align_corners: bool = False,
    size: tuple[int, int] | None = None,
    scale_factor: tuple[float, float] | None = None,
) -> torch.Tensor:
    made = interpolate_call(image.shape, size, scale_factor, mode, align_corners, image.dtype)
    return run_call(made, image)


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_nearest_pixels_are_torchs(isa: str, dtype: torch.dtype) -> None:
    for channels in CHANNELS:
        for height, width, sizes in IMAGES:
            image = random_image((2, channels, height, width), dtype)
            for size in cases_for(channels, sizes):
                found = resized(image, "nearest", **size)
                expected = F.interpolate(image.double(), **size).to(dtype)
                assert torch.equal(found, expected), f"{image.shape}, {size}"


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_blends_are_torchs(isa: str, dtype: torch.dtype, align_corners: bool) -> None:
    for channels in CHANNELS:
        for height, width, sizes in IMAGES:
            image = random_image((2, channels, height, width), dtype)
            for size in cases_for(channels, sizes):
                found = resized(image, "bilinear", align_corners, **size)
                exact = F.interpolate(
                    image.float(), mode="bilinear", align_corners=align_corners, **size
                )
                assert found.shape == exact.shape
                error = (found.float() - exact).abs().max()
                assert error <= ROUNDING[dtype] * exact.abs().max(), f"{image.shape}, {size}"


@pytest.mark.parametrize("align_corners", [False, True])
def test_positions_have_torchs_rounding_on_large_images(isa: str, align_corners: bool) -> None:
    # A float32 position near 4000 is a multiple of 2^-12: one of another rounding would show.
    image = channels_last(torch.randn(1, 2, 3, 4001))
    for size in ({"size": (5, 3777)}, {"scale_factor": (2.0, 1.3)}, {"size": (2, 9001)}):
        found = resized(image, "bilinear", align_corners, **size)  # type: ignore[arg-type]
        expected = F.interpolate(image, mode="bilinear", align_corners=align_corners, **size)  # type: ignore[arg-type]
        assert (found - expected).abs().max() <= 3e-6
        assert torch.equal(resized(image, "nearest", **size), F.interpolate(image, **size))  # type: ignore[arg-type]


def test_the_scale_given_decides_and_not_the_sizes(isa: str) -> None:
    image = random_image((1, 17, 10, 10), torch.float32)
    by_scale = resized(image, "bilinear", scale_factor=(1.55, 1.55))
    by_size = resized(image, "bilinear", size=(15, 15))
    assert by_scale.shape == by_size.shape
    assert (by_scale - by_size).abs().max() > 0.01
    expected = F.interpolate(image, scale_factor=1.55, mode="bilinear")
    assert (by_scale - expected).abs().max() <= 1e-6


def test_the_same_size_is_a_copy(isa: str) -> None:
    image = random_image((2, 21, 9, 14), torch.float32)
    for mode, align_corners in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        assert torch.equal(resized(image, mode, align_corners, size=(9, 14)), image)


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_any_number_of_threads_gives_the_same_bits(isa: str, dtype: torch.dtype) -> None:
    shape = (1, 67, 30, 33)  # large enough to be shared
    image = random_image(shape, dtype)
    for mode in ("nearest", "bilinear") if dtype.is_floating_point else ("nearest",):
        made = interpolate_call(shape, None, (2.0, 2.0), mode, False, dtype)
        found = run_call(made, image, threads=(1, 2, 3))
        expected = F.interpolate(image.float(), scale_factor=2.0, mode=mode)
        assert (found.float() - expected).abs().max() <= 4 * ROUNDING.get(dtype, 0.0)


def test_no_image_gives_no_output(isa: str) -> None:
    image = channels_last(torch.empty(0, 5, 8, 8))
    for mode in ("nearest", "bilinear"):
        assert resized(image, mode, size=(4, 6)).shape == (0, 5, 4, 6)


CALL: dict[str, Any] = {
    "image": (1, 3, 5, 5),
    "size": (7, 7),
    "scale_factor": None,
    "mode": "bilinear",
    "align_corners": True,
    "dtype": torch.float32,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": (3, 5, 5)}, r"image must be \[N, C, H, W\]"),
        ({"image": (1, 3, 0, 5)}, "empty in N at most"),
        ({"size": (0, 7)}, "the output must not be empty"),
        ({"size": None, "scale_factor": (0.1, 1.0)}, r"must not be empty, got \[0, 5\]"),
        ({"size": None}, "either size or scale_factor must be given"),
        ({"scale_factor": (2.0, 2.0)}, "either size or scale_factor must be given"),
        ({"mode": "bicubic"}, "mode must be one of nearest, bilinear, got 'bicubic'"),
        ({"mode": "nearest"}, "align_corners is for mode 'bilinear'"),
        ({"dtype": torch.uint8}, "image of mode 'bilinear' must be one of float16.* got uint8"),
        ({"dtype": torch.float64}, "got float64"),
    ],
)
def test_bad_calls_are_refused(change: dict[str, Any], message: str) -> None:
    interpolate_call(**CALL)
    with pytest.raises(ArgumentError, match=message):
        interpolate_call(**{**CALL, **change})
