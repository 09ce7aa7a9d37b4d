"""Convolution of signs: exact on every instruction set, epilogue, packing, torch."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.backends import reference, registry
from cvperf.backends.cpu.conv2d_binary import conv2d_binary_call, pack_bits_call
from cvperf.errors import ArgumentError
from cvperf.ops import PackedConv2dBinary, conv2d_binary, pack_bits, pack_conv2d_binary
from tests.backends.planned import written

ACTIVATIONS = [None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu"]
FLOATS = [torch.float32, torch.bfloat16, torch.float16]


def random_image(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels-last, a few numbers exactly 0, -0 and NaN."""
    image = torch.randn(size).to(dtype)
    image[torch.rand(size) < 0.05] = 0.0
    image[torch.rand(size) < 0.05] = -0.0
    image[torch.rand(size) < 0.02] = torch.nan
    return image.contiguous(memory_format=torch.channels_last)


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).double()


def exact(image: Tensor, weight: Tensor, **geometry: Any) -> Tensor:
    """The sums in float64, which holds them all, with zeros around the signs."""
    return F.conv2d(signs(image), signs(weight), None, **geometry)


@pytest.mark.parametrize("channels", [1, 3, 31, 32, 33, 64, 96, 100, 257])
def test_sums_are_exact_for_any_number_of_channels(isa: str, channels: int) -> None:
    for filters in (1, 15, 16, 17, 64, 70):
        image, weight = random_image(2, channels, 6, 7), torch.randn(filters, channels, 3, 3)
        found = conv2d_binary(image, weight, padding=1)
        assert torch.equal(found.double(), exact(image, weight, padding=1)), f"{filters} filters"
        assert found.is_contiguous(memory_format=torch.channels_last)


GEOMETRIES: list[tuple[tuple[int, int], dict[str, Any]]] = [
    ((1, 1), {}),
    ((1, 1), {"padding": 2}),
    ((1, 1), {"stride": 3}),
    ((3, 3), {"stride": 2, "padding": 1}),
    ((3, 3), {"dilation": 2, "padding": 2}),
    ((3, 2), {"stride": (1, 3), "padding": (0, 2), "dilation": (2, 3)}),
    ((2, 5), {"padding": (3, 7)}),  # whole windows of padding
    ((4, 1), {"stride": (3, 1), "padding": (1, 0)}),
    ((1, 4), {"stride": (1, 5), "padding": (0, 9), "dilation": (1, 4)}),
    ((11, 9), {"padding": (5, 4)}),
]


@pytest.mark.parametrize(("kernel", "geometry"), GEOMETRIES, ids=str)
def test_sums_are_exact_for_any_window(
    isa: str, kernel: tuple[int, int], geometry: dict[str, Any]
) -> None:
    for channels, filters, size in ((40, 20, (9, 13)), (64, 64, (13, 14)), (5, 3, (11, 17))):
        image = random_image(2, channels, *size)
        weight = torch.randn(filters, channels, *kernel)
        found = conv2d_binary(image, weight, **geometry)
        assert torch.equal(found.double(), exact(image, weight, **geometry)), f"{channels}"


def test_sums_of_many_channels_are_exact(isa: str) -> None:
    # Bytes hold the counts of 31 words only; all bits differ, which is the most there can be.
    image = torch.ones(1, 2000, 3, 3).contiguous(memory_format=torch.channels_last)
    found = conv2d_binary(image, -torch.ones(17, 2000, 3, 3))
    assert torch.equal(found, torch.full((1, 17, 1, 1), -18000.0))
    weight = torch.randn(33, 2000, 3, 3)
    image = random_image(1, 2000, 5, 5)
    assert torch.equal(conv2d_binary(image, weight).double(), exact(image, weight))


@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogue(isa: str, activation: str | None, out_dtype: torch.dtype) -> None:
    for filters in (16, 21):
        image, weight = random_image(2, 20, 5, 6), torch.randn(filters, 20, 3, 3)
        scale, bias = torch.randn(filters) / 20, torch.randn(filters)
        call = {"scale": scale, "bias": bias, "padding": 1, "activation": activation}
        found = conv2d_binary(image, weight, **call, out_dtype=out_dtype)
        with registry.prefer("reference"):
            expected = conv2d_binary(image, weight, **call)
        assert found.dtype == out_dtype
        tolerance = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}[out_dtype]
        torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_one_of_scale_and_bias_may_be_absent(isa: str) -> None:
    image, weight = random_image(1, 8, 4, 4), torch.randn(5, 8, 1, 1)
    sums, numbers = exact(image, weight), torch.arange(5.0)
    column = numbers.view(-1, 1, 1).double()
    assert torch.equal(conv2d_binary(image, weight, scale=numbers).double(), sums * column)
    assert torch.equal(conv2d_binary(image, weight, bias=numbers).double(), sums + column)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("channels", [1, 7, 16, 31, 32, 33, 50, 64, 95])
def test_bits(isa: str, channels: int, dtype: torch.dtype) -> None:
    for image in (random_image(2, channels, 3, 5, dtype=dtype), random_image(1, channels, 1, 1)):
        found = pack_bits(image)
        assert torch.equal(found, reference.pack_bits(image))
        assert torch.equal(pack_bits(image.contiguous()), found)
        words = (channels + 31) // 32
        assert (found.dtype, tuple(found.shape[3:])) == (torch.int32, (words,))


def test_zero_is_plus_one_and_nan_minus_one(isa: str) -> None:
    x = torch.tensor([0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf, torch.nan, -torch.nan])
    assert pack_bits(x.view(1, 8, 1, 1)).item() == 0b00010111
    image = x.view(1, 8, 1, 1)
    ones = conv2d_binary(image, torch.zeros(1, 8, 1, 1))
    assert ones.item() == 4 - 4


@pytest.mark.parametrize("dtype", FLOATS)
def test_images_of_other_dtypes_give_their_own(isa: str, dtype: torch.dtype) -> None:
    image, weight = random_image(1, 40, 5, 5, dtype=dtype), torch.randn(6, 40, 3, 3).to(dtype)
    found = conv2d_binary(image, weight)
    assert found.dtype == dtype
    assert torch.equal(found.double(), exact(image, weight).to(dtype).double())


def test_packed_weights_and_bits_give_the_same_bits(isa: str) -> None:
    image, weight = random_image(2, 70, 9, 8), torch.randn(40, 70, 3, 3)
    expected = conv2d_binary(image, weight, padding=1)
    packed, bits = pack_conv2d_binary(weight), pack_bits(image)
    assert packed.shape == (40, 70, 3, 3)
    assert torch.equal(packed.data, reference.pack_conv2d_binary(weight))
    for each in (image, bits, image.contiguous()):
        assert torch.equal(conv2d_binary(each, packed, padding=1), expected)
    channels_last = weight.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pack_conv2d_binary(channels_last).data, packed.data)
    assert packed.data.numel() * 32 == 48 * 9 * 96  # one bit a number, in whole words and panels


def test_nothing_is_written_beside_the_output_whatever_the_threads(isa: str) -> None:
    for channels, filters, kernel, padding in ((70, 37, 3, 1), (64, 100, 1, 0), (33, 16, 2, 3)):
        image = random_image(3, channels, 12, 13)
        bits, packed = pack_bits(image), pack_conv2d_binary(torch.randn(filters, channels, 1, 1))
        call, shape = pack_bits_call(image.shape, image.dtype)
        assert torch.equal(written(call, [image], shape, bits.stride(), torch.int32), bits)
        packed = pack_conv2d_binary(torch.randn(filters, channels, kernel, kernel))
        scale, bias = torch.randn(filters), torch.randn(filters)
        pads = (padding, padding)
        for dtype in FLOATS:
            call, shape = conv2d_binary_call(
                bits.shape, packed.shape, (1, 1), pads, (1, 1), None, dtype
            )
            expected = conv2d_binary(
                bits, packed, scale=scale, bias=bias, padding=padding, out_dtype=dtype
            )
            read = [bits, packed.data, scale, bias]
            assert torch.equal(written(call, read, shape, expected.stride(), dtype), expected)


def test_an_empty_batch_gives_an_empty_answer(isa: str) -> None:
    found = conv2d_binary(torch.empty(0, 5, 4, 4), torch.randn(3, 5, 3, 3))
    assert tuple(found.shape) == (0, 3, 2, 2)
    assert tuple(pack_bits(torch.empty(0, 33, 2, 2)).shape) == (0, 2, 2, 2)


LAYER: dict[str, Any] = {"input": torch.ones(1, 40, 5, 5), "weight": torch.ones(6, 40, 3, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.ones(40, 5, 5)}, r"input must be input\[N, C, H, W\]"),
        ({"input": torch.ones(1, 40, 5, 5).double()}, "got float64"),
        ({"input": torch.ones(1, 39, 5, 5)}, "input must have 40 channels"),
        ({"input": torch.ones(1, 5, 5, 1, dtype=torch.int32)}, "must have 2 words for the"),
        ({"input": torch.ones(1, 0, 5, 5), "weight": torch.ones(6, 0, 3, 3)}, "no empty dim"),
        ({"weight": torch.ones(6, 40, 3)}, r"weight must be weight\[O, C, kh, kw\]"),
        ({"weight": torch.ones(6, 40, 3, 3, dtype=torch.int8)}, "got int8"),
        ({"weight": torch.ones(6, 40, 6, 3)}, "the kernel reaches over 6 pixels of height"),
        ({"weight": PackedConv2dBinary(torch.ones(3), (6, 40, 3, 3))}, r"int32\[1, 18, 16\]"),
        ({"scale": torch.ones(5)}, r"scale must be float32\[6\], one number a filter"),
        ({"scale": torch.ones(6).half()}, "scale must be .* got float16"),
        ({"bias": torch.ones(6, 1)}, r"bias must be bias\[O\]"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"dilation": (1, 0)}, "dilation must be at least 1"),
        ({"activation": "tanh"}, "activation must be None or one of"),
        ({"out_dtype": torch.int8}, "out_dtype must be one of float16"),
        ({"weight": torch.ones(1, 1, 1, 1).expand(1, 2**21, 3, 3)}, "float32 does not hold"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    conv2d_binary(**LAYER)
    with pytest.raises(ArgumentError, match=message):
        conv2d_binary(**{**LAYER, **change})


@pytest.mark.parametrize(
    "change",
    [{"input": 1.0}, {"weight": [1]}, {"scale": 2.0}, {"out_dtype": "float32"}, {"stride": 1.5}],
)
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(change))):
        conv2d_binary(**{**LAYER, **change})


def test_bad_images_and_weights_are_not_packed() -> None:
    with pytest.raises(ArgumentError, match="empty in N at most"):
        pack_bits(torch.ones(1, 0, 2, 2))
    with pytest.raises(ArgumentError, match=r"x must be x\[N, C, H, W\]"):
        pack_bits(torch.ones(3, 2, 2))
    with pytest.raises(ArgumentError, match="weight must have no empty dimension"):
        pack_conv2d_binary(torch.ones(0, 3, 1, 1))


def test_packed_weights_can_be_saved() -> None:
    packed = pack_conv2d_binary(torch.randn(5, 7, 3, 3))
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    again = torch.load(file, weights_only=True)
    assert again.shape == packed.shape
    assert torch.equal(again.data, packed.data)


def test_opcheck_and_compile() -> None:
    image, weight = random_image(2, 40, 5, 6), torch.randn(6, 40, 3, 3)
    packed, bits = pack_conv2d_binary(weight), pack_bits(image)
    ours = torch.ops.cvperf
    torch.library.opcheck(ours.pack_bits.default, (image,))
    torch.library.opcheck(ours.pack_conv2d_binary.default, (weight,))
    call = (bits, packed.data, packed.shape, torch.rand(6), None, (2, 1), (1, 0), (1, 1), "relu")
    torch.library.opcheck(ours.conv2d_binary.default, (*call, torch.bfloat16))

    def layer(image: Tensor, packed: PackedConv2dBinary) -> Tensor:
        return conv2d_binary(image * 2, packed, padding=1) + 1

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image, packed), layer(image, packed))
