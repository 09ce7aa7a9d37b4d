"""uint8 images to normalised floats: every change of layout, against float64 and torchvision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops
from cvperf.errors import ArgumentError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMATS = [torch.preserve_format, torch.contiguous_format, torch.channels_last]
ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 3e-7}


def random_pixels(count: int, height: int, width: int, channels: int) -> Tensor:
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8)


def exact(pixels: Tensor, mean: Any, std: Any) -> Tensor:
    value = pixels.double() / 255 - torch.tensor(mean).double()
    return (value / torch.tensor(std).double()).permute(0, 3, 1, 2)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_agrees_with_float64(
    isa: str, layout: str, format: torch.memory_format, dtype: torch.dtype
) -> None:
    for channels in (1, 3, 4, 7):
        mean, std = torch.rand(channels).tolist(), (torch.rand(channels) + 0.2).tolist()
        for size in ((1, 1), (5, 7), (33, 65), (1, 2050)):
            pixels = random_pixels(2, *size, channels)
            planes = pixels.permute(0, 3, 1, 2)
            image = pixels if layout == "NHWC" else planes.contiguous()
            found = ops.normalize_image(
                image, mean, std, layout=layout, dtype=dtype, memory_format=format
            )
            expected = exact(pixels, mean, std)
            error = (found.double() - expected).abs().max() / expected.abs().max()
            assert error <= ROUNDING[dtype], f"{channels} channels of {size}: {error:.1e}"
            kept = torch.channels_last if layout == "NHWC" else torch.contiguous_format
            wanted = kept if format is torch.preserve_format else format
            assert found.is_contiguous(memory_format=wanted)


def test_agrees_with_torchvision() -> None:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    pixels = random_pixels(2, 40, 50, 3)
    planes = pixels.permute(0, 3, 1, 2)
    expected = functional.normalize(
        functional.to_dtype(planes, torch.float32, scale=True), list(MEAN), list(STD)
    )
    found = ops.normalize_image(pixels, MEAN, STD, layout="NHWC")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(ops.normalize_image(planes, MEAN, STD), found)


@pytest.mark.parametrize("format", FORMATS)
def test_large_images_and_any_number_of_threads(isa: str, format: torch.memory_format) -> None:
    """From 24 MB on outputs are stored past the caches."""
    pixels = random_pixels(1, 1203, 1801, 3)
    expected = exact(pixels, MEAN, STD).float()
    answers = []
    for threads in (1, 5):
        torch.set_num_threads(threads)
        answers.append(ops.normalize_image(pixels, MEAN, STD, layout="NHWC", memory_format=format))
    torch.set_num_threads(2)
    assert torch.equal(*answers)
    assert (answers[0] - expected).abs().max() <= 1e-6


def test_one_image_has_three_dimensions() -> None:
    pixels = random_pixels(1, 6, 7, 3)
    found = ops.normalize_image(pixels[0], MEAN, STD, layout="NHWC")
    assert torch.equal(found, ops.normalize_image(pixels, MEAN, STD, layout="NHWC")[0])


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_empty_input_gives_an_empty_answer(shape: tuple[int, ...]) -> None:
    image = torch.zeros(shape, dtype=torch.uint8)
    for format in FORMATS:
        assert ops.normalize_image(image, MEAN, STD, memory_format=format).shape == shape


def test_views_are_copied() -> None:
    pixels = random_pixels(2, 9, 20, 3)
    found = ops.normalize_image(pixels[:, 1:8, 3:17], MEAN, STD, layout="NHWC")
    assert torch.equal(
        found, ops.normalize_image(pixels[:, 1:8, 3:17].contiguous(), MEAN, STD, layout="NHWC")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.rand(1, 3, 4, 4)}, "image must be .* of one of uint8; got float32"),
        ({"image": torch.zeros(3, dtype=torch.uint8)}, r"image must be image\[N, C, H, W\]"),
        ({"image": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}, 'Is it layout="NHWC"?'),
        ({"mean": (0.5,)}, "one number a channel"),
        ({"std": (0.5, 0.0, 0.5)}, "std must not be 0"),
        ({"std": (0.5, float("nan"), 0.5)}, r"std\[1\] is NaN"),
        ({"layout": "CHW"}, "layout must be one of NCHW, NHWC"),
        ({"dtype": torch.float64}, "dtype must be one of float16"),
        ({"memory_format": torch.channels_last_3d}, "memory_format must be one of"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ArgumentError, match=message):
        ops.normalize_image(**{"image": image, "mean": MEAN, "std": STD, **change})


@pytest.mark.parametrize("change", [{"image": 1}, {"mean": 0.5}, {"std": ("a", "b", "c")},
                                    {"dtype": "half"}])  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(TypeError, match=next(iter(change))):
        ops.normalize_image(**{"image": image, "mean": MEAN, "std": STD, **change})


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck_and_compile(channels_last: bool) -> None:
    image = random_pixels(2, 5, 6, 3).permute(0, 3, 1, 2)
    arguments = (image, list(MEAN), list(STD), torch.float32, channels_last)
    torch.library.opcheck(torch.ops.cvperf.normalize_image.default, arguments)

    def run(image: Tensor) -> Tensor:
        return ops.normalize_image(image, MEAN, STD) * 2

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), run(image))
