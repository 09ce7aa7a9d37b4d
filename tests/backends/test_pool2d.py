"""Pooling's native calls: torch's windows, torch's numbers."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.backends.cpu.pool2d import (
    adaptive_avg_pool2d_call,
    adaptive_avg_pool2d_int8_call,
    avg_pool2d_call,
    avg_pool2d_int8_call,
    max_pool2d_call,
)
from cvperf.errors import ArgumentError
from tests.backends.call_runs import cases_for, channels_last, random_image, run_call

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
BYTES = [torch.int8, torch.uint8]
CHANNELS = [1, 3, 16, 17, 67, 512]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}

# Kernel, stride, padding.
WINDOWS = [
    ((3, 3), (2, 2), (1, 1)),
    ((2, 2), (2, 2), (0, 0)),
    ((3, 2), (1, 3), (0, 1)),
    ((1, 5), (4, 2), (0, 2)),
    ((2, 3), (5, 4), (1, 1)),  # gaps between windows
    ((5, 6), (3, 5), (2, 3)),  # ceil_mode: the last starts in the image, or would in the padding
    ((7, 9), (4, 2), (3, 4)),  # many pixels
]
DILATED = [
    ((3, 3), (2, 1), (1, 1), (2, 3)),
    ((2, 5), (1, 2), (1, 2), (5, 1)),
    ((4, 3), (3, 3), (2, 0), (3, 6)),
]
# Beside the window: dilation and ceil_mode, or ceil_mode, count_include_pad and divisor_override.
LAYERS = [
    (*layer, ceil_mode)
    for layer in [*((*window, (1, 1)) for window in WINDOWS), *DILATED]
    for ceil_mode in (False, True)
]
AVERAGES = [
    (*window, *counting)
    for window in WINDOWS
    for counting in product((False, True), (False, True), (None, 5, -3))
]


def max_pooled(
    image: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    ceil_mode: bool = False,
) -> Tensor:
    made = max_pool2d_call(image.shape, kernel, stride, padding, dilation, ceil_mode, image.dtype)
    return run_call(made, image)


def same(found: Tensor, expected: Tensor) -> bool:
    """Equal shapes and numbers, with NaN equal to NaN, and zeros of one sign."""
    if found.is_floating_point():
        numbers = torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True)
        signs = torch.signbit(found) == torch.signbit(expected)
        return found.shape == expected.shape and numbers and bool((signs | found.isnan()).all())
    return torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_maxima_are_torchs(isa: str, dtype: torch.dtype) -> None:
    for channels in CHANNELS:
        image = random_image((2, channels, 12, 17), dtype)
        for layer in cases_for(channels, LAYERS):
            found = max_pooled(image, *layer)
            # Of bytes torch counts pixels in bytes, so that 127 are too many.
            wide = image if dtype.is_floating_point else image.float()
            expected = F.max_pool2d(wide, *layer).to(dtype)
            assert same(found, expected), f"{channels} channels, {layer}"


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_infinity_and_zeros_of_both_signs(isa: str, dtype: torch.dtype) -> None:
    for channels in (3, 67):
        image = random_image((1, channels, 20, 20), dtype)
        chosen = torch.rand(image.shape)
        image[chosen < 0.1] = math.nan
        image[chosen > 0.8] = -math.inf
        image[(chosen > 0.2) & (chosen < 0.4)] = 0.0
        image[(chosen > 0.4) & (chosen < 0.6)] = -0.0
        found = max_pooled(image, (2, 2), (1, 1), (1, 1))
        assert same(found, F.max_pool2d(image, 2, 1, 1))
        assert found.isnan().any()
        assert not found.isnan().all()
        low = torch.full_like(image, -math.inf)
        assert max_pooled(low, (3, 3), (2, 2), (1, 1)).isneginf().all()


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_padding_never_wins(isa: str, dtype: torch.dtype) -> None:
    lowest = torch.finfo(dtype).min if dtype.is_floating_point else torch.iinfo(dtype).min
    image = channels_last(torch.full((1, 19, 5, 5), lowest, dtype=dtype))
    assert (max_pooled(image, (3, 3), (1, 1), (1, 1)) == lowest).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_a_window_of_padding_only_has_the_lowest_number(isa: str, dtype: torch.dtype) -> None:
    image = random_image((1, 19, 1, 8), dtype)  # the two rows of a window are above and below it
    layer = ((2, 2), (1, 1), (1, 0), (2, 1))
    found = max_pooled(image, *layer)
    assert same(found, F.max_pool2d(image, *layer))
    lowest = -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min
    assert (found == lowest).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_averages_are_torchs(isa: str, dtype: torch.dtype) -> None:
    for channels in CHANNELS:
        image = random_image((2, channels, 12, 17), dtype)
        for layer in cases_for(channels, AVERAGES):
            found = run_call(avg_pool2d_call(image.shape, *layer, dtype), image)
            exact = F.avg_pool2d(image.double(), *layer)
            assert found.shape == exact.shape
            error = (found.double() - exact).abs().max()
            assert error <= ROUNDING[dtype] * exact.abs().max(), (
                f"{channels} channels, {layer}: {error:.1e}"
            )


def test_halves_are_summed_as_float32_and_rounded_once(isa: str) -> None:
    # In bfloat16 a sum of ones stops at 256.
    image = channels_last(torch.ones(1, 20, 33, 33, dtype=torch.bfloat16))
    layer = ((31, 31), (1, 1), (0, 0), False, True, 1)
    found = run_call(avg_pool2d_call(image.shape, *layer, image.dtype), image)
    assert (found == torch.tensor(961.0).bfloat16()).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", [(1, 1), (1, 3), (5, 4), (7, 7), (12, 17), (20, 30)], ids=str)
def test_bins_are_torchs(isa: str, output: tuple[int, int], dtype: torch.dtype) -> None:
    for channels in CHANNELS:
        for height, width in ((12, 17), (7, 7), (1, 1), (30, 21)):
            image = random_image((2, channels, height, width), dtype)
            found = run_call(adaptive_avg_pool2d_call(image.shape, output, dtype), image)
            exact = F.adaptive_avg_pool2d(image.double(), output)
            assert found.shape == exact.shape
            error = (found.double() - exact).abs().max()
            assert error <= ROUNDING[dtype] * exact.abs().max(), f"{image.shape}: {error:.1e}"


@pytest.mark.parametrize("channels", [1, 5, 16, 100])
def test_the_mean_of_a_large_image_is_exact_to_rounding(isa: str, channels: int) -> None:
    image = channels_last(torch.rand(3, channels, 190, 101))
    found = run_call(adaptive_avg_pool2d_call(image.shape, (1, 1), image.dtype), image)
    exact = image.double().mean((2, 3), keepdim=True)
    assert (found - exact).abs().max() <= 2e-7
    # The same layer as a window over the whole image.
    layer = ((190, 101), (), (0, 0), False, True, None)
    window = run_call(avg_pool2d_call(image.shape, *layer, image.dtype), image)
    assert torch.equal(window, found)


def test_bins_of_the_images_own_size_are_its_pixels(isa: str) -> None:
    image = random_image((1, 21, 9, 14), torch.float32)
    found = run_call(adaptive_avg_pool2d_call(image.shape, (None, None), image.dtype), image)
    assert torch.equal(found, image)


def real(image: Tensor, scale: float, zero: int) -> Tensor:
    return (image.double() - zero) * scale


def check_quantised(found: Tensor, exact: Tensor, scale: float, zero: int) -> None:
    """Within a step, and equal but where the mean is nearly between two."""
    if found.is_floating_point():
        error = (found.double() - exact).abs().max()
        assert error <= ROUNDING[found.dtype] * exact.abs().max() + 1e-12
        return
    info, steps = torch.iinfo(found.dtype), exact / scale
    expected = (steps.round() + zero).clamp(info.min, info.max)
    tie = ((steps - steps.floor()) - 0.5).abs() < 1e-4
    assert torch.equal(found.double()[~tie], expected[~tie])
    assert (found.double() - expected).abs().max() <= 1


@pytest.mark.parametrize("out", [*BYTES, *FLOATS])
@pytest.mark.parametrize("dtype", BYTES)
def test_averages_of_bytes(isa: str, dtype: torch.dtype, out: torch.dtype) -> None:
    for channels in (1, 3, 17, 67):
        image = random_image((2, channels, 12, 17), dtype)
        for kernel, stride, padding in WINDOWS:
            for counted, divisor, output in (
                (True, None, 0.021),
                (False, None, 0.05),
                (True, 2, 0.1),
            ):
                layer = (kernel, stride, padding, True, counted, divisor)
                made = avg_pool2d_int8_call(image.shape, *layer, dtype, 0.05, 9, output, 4, out)
                exact = F.avg_pool2d(real(image, 0.05, 9), *layer)
                check_quantised(run_call(made, image, out), exact, output, 4)


@pytest.mark.parametrize("out", [*BYTES, *FLOATS])
@pytest.mark.parametrize("dtype", BYTES)
def test_bins_of_bytes(isa: str, dtype: torch.dtype, out: torch.dtype) -> None:
    for channels in (1, 3, 17, 67, 300):
        for side, output in ((7, (1, 1)), (12, (5, 3)), (60, (1, 1)), (30, (2, 3))):
            image = random_image((2, channels, side, side + 1), dtype)
            made = adaptive_avg_pool2d_int8_call(image.shape, output, dtype, 0.05, 3, 0.004, 2, out)
            exact = F.adaptive_avg_pool2d(real(image, 0.05, 3), output)
            check_quantised(run_call(made, image, out), exact, 0.004, 2)


def test_quantised_means_saturate_and_round_half_to_even(isa: str) -> None:
    image = (
        torch.tensor([0, 1, 3, 5, 127, -128], dtype=torch.int8).view(1, 6, 1, 1).repeat(1, 9, 1, 1)
    )
    image = channels_last(image)
    made = adaptive_avg_pool2d_int8_call(
        image.shape, (1, 1), torch.int8, 1.0, 0, 2.0, 0, torch.int8
    )
    assert run_call(made, image).flatten()[:6].tolist() == [0, 0, 2, 2, 64, -64]
    made = adaptive_avg_pool2d_int8_call(
        image.shape, (1, 1), torch.int8, 9.0, 0, 2.0, 7, torch.uint8
    )
    assert run_call(made, image, torch.uint8).flatten()[:6].tolist() == [7, 11, 21, 29, 255, 0]


@pytest.mark.parametrize("dtype", [*FLOATS, *BYTES])
def test_any_number_of_threads_gives_the_same_bits(isa: str, dtype: torch.dtype) -> None:
    for shape in ((1, 70, 60, 41), (3, 16, 40, 50), (1, 512, 3, 90)):  # large enough to be shared
        image = random_image(shape, dtype)
        square, whole = ((3, 3), (1, 1), (1, 1)), (False, True, None)
        made = [max_pool2d_call(shape, *square, (1, 1), False, dtype)]
        if dtype.is_floating_point:
            made.append(avg_pool2d_call(shape, *square, *whole, dtype))
            made += [adaptive_avg_pool2d_call(shape, (side, side), dtype) for side in (1, 2, 6)]
        else:
            levels = (dtype, 0.1, 3, 0.05, 2, dtype)
            made.append(avg_pool2d_int8_call(shape, *square, *whole, *levels))
            made += [adaptive_avg_pool2d_int8_call(shape, (side, 2), *levels) for side in (1, 2)]
            made.append(adaptive_avg_pool2d_int8_call(shape, (1, 1), *levels))
        for each in made:
            run_call(each, image, threads=(1, 2, 3))


def test_no_image_gives_no_output(isa: str) -> None:
    image = channels_last(torch.empty(0, 5, 8, 8))
    assert max_pooled(image, (2, 2), (2, 2), (0, 0)).shape == (0, 5, 4, 4)
    made = avg_pool2d_call(image.shape, (2, 2), (), (0, 0), False, True, None, image.dtype)
    assert run_call(made, image).shape == (0, 5, 4, 4)
    made = adaptive_avg_pool2d_call(image.shape, (1, 1), image.dtype)
    assert run_call(made, image).shape == (0, 5, 1, 1)
    one = torch.rand(1, 5, 8, 8)
    assert run_call(
        adaptive_avg_pool2d_call(one.shape, (0, 2), one.dtype), channels_last(one)
    ).shape == (1, 5, 0, 2)


def test_sizes_are_torchs() -> None:
    for side in range(1, 12):
        for kernel in range(1, 6):
            for stride in range(1, 6):
                for padding in range(kernel // 2 + 1):
                    for dilation in (1, 2, 3):
                        for ceil_mode in (False, True):
                            image = torch.empty(1, 1, side, 11)
                            layer = (
                                (kernel, 1),
                                (stride, 1),
                                (padding, 0),
                                (dilation, 1),
                                ceil_mode,
                            )
                            try:
                                expected = F.max_pool2d(image, *layer).shape
                            except RuntimeError:
                                with pytest.raises(ArgumentError):
                                    max_pool2d_call(image.shape, *layer, image.dtype)
                            else:
                                assert (
                                    max_pool2d_call(image.shape, *layer, image.dtype)[1] == expected
                                )


LAYER = {
    "image": (1, 3, 5, 5),
    "kernel": (3, 3),
    "stride": (2, 2),
    "padding": (1, 1),
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
    "dtype": torch.float32,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": (3, 5, 5)}, r"image must be \[N, C, H, W\]"),
        ({"image": (1, 0, 5, 5)}, r"empty in N at most, got \[1, 0, 5, 5\]"),
        ({"kernel": (9, 3)}, r"the window does not fit: input is \[1, 3, 5, 5\]"),
        ({"kernel": (0, 3)}, "kernel, stride and dilation must be 1 or more"),
        ({"stride": (1, 0)}, "kernel, stride and dilation must be 1 or more"),
        ({"padding": (-1, 0)}, "padding 0 or more"),
        ({"padding": (2, 0)}, "padding must be half of the kernel at most"),
        ({"divisor_override": 0}, "divisor_override is 0"),
        ({"dtype": torch.float64}, "image must be one of float16, bfloat16, float32, got float64"),
        ({"dtype": torch.int8}, "got int8"),
    ],
)
def test_bad_layers_are_refused(change: dict[str, Any], message: str) -> None:
    avg_pool2d_call(**LAYER)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=message):
        avg_pool2d_call(**{**LAYER, **change})


def test_bad_adaptive_and_quantised_layers_are_refused() -> None:
    with pytest.raises(ArgumentError, match="output_size must be 0 or more"):
        adaptive_avg_pool2d_call((1, 3, 5, 5), (-1, 2), torch.float32)
    quantised = (0.1, 0, 0.1, 0)
    with pytest.raises(ArgumentError, match="average floats"):
        adaptive_avg_pool2d_int8_call(
            (1, 3, 5000, 5000), (1, 1), torch.int8, *quantised, torch.int8
        )
    with pytest.raises(ArgumentError, match="output must be one of"):
        adaptive_avg_pool2d_int8_call((1, 3, 5, 5), (1, 1), torch.int8, *quantised, torch.int32)
    with pytest.raises(ArgumentError, match="image must be one of int8, uint8"):
        adaptive_avg_pool2d_int8_call((1, 3, 5, 5), (1, 1), torch.half, *quantised, torch.int8)
