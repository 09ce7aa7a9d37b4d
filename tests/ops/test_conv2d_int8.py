"""INT8 convolution: exact sums on every instruction set, epilogue, packing, torch."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvperf.backends import reference, registry
from cvperf.ops import PackedConv2dInt8, conv2d_int8, pack_conv2d_int8

ACTIVATIONS = [None, "relu", "relu6", "silu", "hardswish", "sigmoid", "leaky_relu"]
RANGES = {torch.int8: (-128, 128), torch.uint8: (0, 256)}


def random_image(*size: int, dtype: torch.dtype = torch.uint8, dense: bool = True) -> Tensor:
    low, high = RANGES[dtype]
    image = torch.randint(low, high, size, dtype=torch.int16).to(dtype)
    return image.contiguous(memory_format=torch.channels_last) if dense else image


def random_weight(*size: int) -> Tensor:
    return random_image(*size, dtype=torch.int8, dense=False)


def exact(image: Tensor, weight: Tensor, zero: int = 0, **geometry: Any) -> Tensor:
    """The sums in int64, from an unfolded image."""
    stride, padding, dilation, groups = (
        geometry.get(name, default)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
    )
    pair = (padding, padding) if isinstance(padding, int) else tuple(padding)
    wide = torch.nn.functional.pad(image.long() - zero, (pair[1], pair[1], pair[0], pair[0]))
    steps = (stride, stride) if isinstance(stride, int) else tuple(stride)
    apart = (dilation, dilation) if isinstance(dilation, int) else tuple(dilation)
    filters, channels, height, width = weight.shape
    sides = [
        (wide.shape[2 + i] - apart[i] * (weight.shape[2 + i] - 1) - 1) // steps[i] + 1
        for i in (0, 1)
    ]
    sums = torch.zeros(image.shape[0], filters, *sides, dtype=torch.int64)
    each = filters // groups
    for p in range(height):
        for q in range(width):
            rows = slice(p * apart[0], p * apart[0] + (sides[0] - 1) * steps[0] + 1, steps[0])
            columns = slice(q * apart[1], q * apart[1] + (sides[1] - 1) * steps[1] + 1, steps[1])
            window = wide[:, :, rows, columns]
            for g in range(groups):
                part = window[:, g * channels : (g + 1) * channels]
                taps = weight[g * each : (g + 1) * each, :, p, q].long()
                sums[:, g * each : (g + 1) * each] += torch.einsum("nchw,oc->nohw", part, taps)
    return sums


def assert_exact(found: Tensor, expected: Tensor, what: str) -> None:
    assert found.dtype == torch.int32
    assert found.shape == expected.shape, what
    wrong = found.long() != expected
    first = torch.nonzero(wrong)[:1].tolist()
    assert not wrong.any(), (
        f"{what}: {int(wrong.sum())} of {wrong.numel()} sums differ, the first at {first}: "
        f"got {found[wrong][:1].tolist()}, expected {expected[wrong][:1].tolist()}"
    )


def sums(image: Tensor, weight: Tensor | PackedConv2dInt8, zero: int = 0, **options: Any) -> Tensor:
    return conv2d_int8(image, weight, zero_point_input=zero, out_dtype=torch.int32, **options)


# --- exact sums -----------------------------------------------------------------------------------

# N, C, H, W, O, kernel, geometry: one of each kind of layer, and what its edges can be.
LAYERS = [
    (2, 64, 9, 7, 64, (1, 1), {}),
    (1, 24, 8, 8, 20, (1, 1), {"stride": 2}),
    (1, 7, 5, 5, 3, (1, 1), {"padding": 1}),
    (2, 32, 10, 9, 48, (3, 3), {"padding": 1}),
    (1, 64, 14, 14, 70, (3, 3), {"stride": 2, "padding": 1}),
    (1, 3, 33, 31, 64, (7, 7), {"stride": 2, "padding": 3}),
    (1, 512, 7, 7, 16, (3, 3), {"padding": 1}),  # K is cut into blocks
    (1, 17, 12, 13, 5, (3, 2), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    (1, 8, 3, 3, 9, (3, 3), {"padding": 4, "dilation": 3}),  # most taps outside
    (2, 24, 8, 8, 36, (3, 3), {"padding": 1, "groups": 3}),
    (1, 6, 6, 6, 12, (3, 3), {"padding": 1, "groups": 6}),  # two filters a channel
    (1, 1, 9, 9, 1, (3, 3), {"padding": 1}),
    (2, 32, 12, 11, 32, (3, 3), {"padding": 1, "groups": 32}),
    (1, 80, 12, 40, 80, (3, 3), {"stride": 2, "padding": 1, "groups": 80}),
    (1, 17, 9, 9, 17, (5, 5), {"padding": 2, "groups": 17}),
    (1, 20, 9, 9, 20, (4, 2), {"padding": (1, 3), "dilation": (2, 1), "groups": 20}),
    (1, 2, 3, 2, 2, (3, 1), {"groups": 2}),
]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_sums_are_exact(isa: str, layer: tuple[Any, ...], dtype: torch.dtype) -> None:
    n, c, h, w, o, kernel, geometry = layer
    image = random_image(n, c, h, w, dtype=dtype)
    weight = random_weight(o, c // geometry.get("groups", 1), *kernel)
    for zero in (0, 100):
        expected = exact(image, weight, zero, **geometry)
        assert_exact(sums(image, weight, zero, **geometry), expected, f"{isa} zero point {zero}")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_generated_layers_are_exact(isa: str, data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups = data.draw(st.sampled_from([1, 1, 2, 5]))
    channels = groups * draw(1, 20) if data.draw(st.booleans()) else groups
    filters = groups * draw(1, 20) if data.draw(st.booleans()) else groups
    kernel, dilation = (draw(1, 5), draw(1, 5)), (draw(1, 3), draw(1, 3))
    padding, stride = (draw(0, 4), draw(0, 4)), (draw(1, 3), draw(1, 3))
    least = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) for i in (0, 1)]
    size = [draw(each, each + 12) for each in least]
    dtype = data.draw(st.sampled_from([torch.uint8, torch.int8]))
    torch.manual_seed(draw(0, 2**32))
    image = random_image(draw(0, 2), channels, *size, dtype=dtype, dense=data.draw(st.booleans()))
    weight = random_weight(filters, channels // groups, *kernel)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    zero = draw(0, 127)
    expected = exact(image, weight, zero, **geometry)
    assert_exact(sums(image, weight, zero, **geometry), expected, f"{isa} {dtype} {geometry}")


@pytest.mark.parametrize("groups", [1, 40])
@pytest.mark.parametrize(
    ("dtype", "left", "right"),
    [(torch.int8, -128, -128), (torch.int8, 127, -128), (torch.uint8, 255, -128)],
)
def test_extremes_do_not_saturate(
    isa: str, dtype: torch.dtype, left: int, right: int, groups: int
) -> None:
    image = torch.full((1, 40, 6, 6), left, dtype=dtype)
    weight = torch.full((40, 40 // groups, 3, 3), right, dtype=torch.int8)
    expected = exact(image, weight, padding=1, groups=groups)
    assert_exact(sums(image, weight, padding=1, groups=groups), expected, isa)


def test_padding_is_a_real_zero(isa: str) -> None:
    image = torch.full((1, 8, 4, 4), 93, dtype=torch.uint8)  # nothing but the zero point
    found = sums(image, random_weight(6, 8, 3, 3), 93, padding=2)
    assert_exact(found, torch.zeros(1, 6, 6, 6, dtype=torch.int64), isa)


@pytest.mark.parametrize("groups", [1, 8])
def test_empty_batch(isa: str, groups: int) -> None:
    found = sums(random_image(0, 8, 5, 5), random_weight(8, 8 // groups, 3, 3), groups=groups)
    assert found.shape == (0, 8, 3, 3)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    image, weight = random_image(2, 64, 30, 30), random_weight(96, 64, 3, 3)
    options = {"scale_input": 1e-3, "activation": "silu", "padding": 1}
    two = conv2d_int8(image, weight, **options)
    torch.set_num_threads(1)
    try:
        one = conv2d_int8(image, weight, **options)
    finally:
        torch.set_num_threads(2)
    assert torch.equal(one, two)


# --- layouts and packing --------------------------------------------------------------------------


def test_layouts_are_served_not_refused_and_the_output_is_channels_last(isa: str) -> None:
    weight = random_weight(10, 12, 3, 3)
    wide = random_image(2, 24, 18, 9)
    layouts = {
        "contiguous": random_image(2, 12, 9, 9, dense=False),
        "every second channel": wide[:, ::2],
        "every second row": wide[:, :12, ::2],
        "one image repeated": wide[:1, :12].expand(3, -1, -1, -1),
    }
    for name, image in layouts.items():
        found = sums(image, weight)
        assert_exact(found, exact(image, weight), f"{isa} {name}")
        assert found.is_contiguous(memory_format=torch.channels_last), name
    turned = weight.permute(0, 1, 3, 2)
    image = layouts["contiguous"]
    assert_exact(sums(image, turned), exact(image, turned), f"{isa} a weight with strides")


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((20, 6, 3, 3), 1), ((20, 6, 3, 3), 4), ((9, 1, 5, 3), 9), ((4, 1, 2, 2), 2)],
)
def test_packed_bytes_are_the_same_on_every_instruction_set(
    isa: str, shape: tuple[int, int, int, int], groups: int
) -> None:
    weight = random_weight(*shape)
    packed = pack_conv2d_int8(weight, groups)
    assert torch.equal(packed.data, reference.pack_conv2d_int8(weight, groups)), isa
    assert (packed.shape, packed.groups) == (shape, groups)
    image = random_image(1, shape[1] * groups, 8, 8)
    assert torch.equal(sums(image, packed), sums(image, weight, groups=groups))


# --- epilogue -------------------------------------------------------------------------------------


def formula(
    image: Tensor, weight: Tensor, activation: str | None, residual: Tensor | float, **options: Any
) -> Tensor:
    """The documented formula in float64, written apart from the backends."""
    value = exact(image, weight, options["zero_point_input"], padding=1).double()
    per_filter = options["scale_weight"].double().reshape(-1, 1, 1)
    value = value * options["scale_input"] * per_filter
    value = value + options["bias"].double().reshape(-1, 1, 1) + residual
    return value if activation is None else getattr(torch.nn.functional, activation)(value)


def epilogue_case(dtype: torch.dtype, filters: int = 37) -> tuple[Tensor, Tensor, dict[str, Any]]:
    options = {
        "scale_input": 0.02,
        "scale_weight": torch.rand(filters) * 0.01 + 1e-3,
        "zero_point_input": 11,
        "bias": torch.randn(filters),
        "padding": 1,
    }
    return random_image(2, 20, 7, 9, dtype=dtype), random_weight(filters, 20, 3, 3), options


# One rounding of the output, and float32 steps before it.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("out_dtype", list(TOLERANCE))
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_epilogue_equals_the_formula_in_float64(
    isa: str, dtype: torch.dtype, out_dtype: torch.dtype, activation: str | None
) -> None:
    image, weight, options = epilogue_case(dtype)
    residual = torch.randn(2, 37, 7, 9).to(out_dtype)
    for shortcut in (None, residual):
        found = conv2d_int8(
            image, weight, **options, activation=activation, residual=shortcut, out_dtype=out_dtype
        )
        added = 0.0 if shortcut is None else shortcut.double()
        expected = formula(image, weight, activation, added, **options)
        assert found.dtype == out_dtype
        # The product may be far larger than its sum with the bias: errors are measured against it.
        size = formula(image, weight, None, 0.0, **options).abs() + expected.abs() + 1
        error = ((found.double() - expected).abs() / size).max().item()
        assert error <= TOLERANCE[out_dtype], f"{isa}: relative error {error:.2e}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("out_dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("filters", [37, 16, 32, 48, 64])  # a part of a panel, and whole ones
def test_requantised_output_is_the_rounded_and_saturated_formula(
    isa: str, out_dtype: torch.dtype, activation: str | None, filters: int
) -> None:
    image, weight, options = epilogue_case(torch.uint8, filters)
    residual = random_image(2, filters, 7, 9, dtype=out_dtype)
    requantise = {"scale_output": 0.37, "zero_point_output": 5}
    limits = torch.iinfo(out_dtype)
    for shortcut, scale, zero in ((None, None, None), (residual, None, None), (residual, 0.21, 17)):
        of_residual = {"scale_residual": scale, "zero_point_residual": zero}
        found = conv2d_int8(
            image, weight, **options, **requantise, activation=activation, residual=shortcut,
            out_dtype=out_dtype, **(of_residual if shortcut is not None else {}),
        )  # fmt: skip
        assert found.dtype == out_dtype
        added = (residual.double() - (5 if zero is None else zero)) * (scale or 0.37)
        if shortcut is None:
            added = torch.zeros(())
        value = formula(image, weight, activation, added, **options) / 0.37 + 5
        # float32 may fall on the other side of a tie: half a unit, and a little.
        error = (found.double() - value.clamp(limits.min, limits.max)).abs().max().item()
        assert error <= 0.5 + 1e-3, f"{isa}: {error} away from the formula"


@pytest.mark.parametrize("out_dtype", [torch.int8, torch.uint8])
@pytest.mark.parametrize("zero", [0, 3, 127])
def test_requantised_output_rounds_half_to_even_then_adds_the_zero_point(
    isa: str, out_dtype: torch.dtype, zero: int
) -> None:
    """Scales that are powers of two leave nothing to round but the end: exact."""
    image = torch.arange(256).to(torch.uint8).reshape(1, 1, 16, 16)
    weight = torch.tensor([1, -1, 2, 3, 127, -128], dtype=torch.int8).reshape(6, 1, 1, 1)
    weight = weight.repeat(8, 1, 1, 1)  # three whole panels
    limits = torch.iinfo(out_dtype)
    residual = torch.arange(256).reshape(1, 1, 16, 16).flip(2) + limits.min
    residual = residual.expand(1, 48, 16, 16).to(out_dtype)
    for shortcut, of_residual in (
        (None, {}),
        (residual, {"scale_residual": 0.5, "zero_point_residual": 9}),
    ):
        found = conv2d_int8(
            image, weight, zero_point_input=128, scale_input=0.5, scale_output=2.0,
            zero_point_output=zero, out_dtype=out_dtype, residual=shortcut, **of_residual,
        )  # fmt: skip
        total = exact(image, weight, 128).double()
        value = total if shortcut is None else total + (residual.double() - 9)
        value = (value / 4).round() + zero
        assert torch.equal(found, value.clamp(limits.min, limits.max).to(out_dtype)), isa


@pytest.mark.parametrize("times", [1, 8])  # a part of a panel, a whole one
def test_nan_and_infinity_saturate(isa: str, times: int) -> None:
    image = random_image(1, 1, 2, 2)
    weight = torch.ones(4 * times, 1, 1, 1, dtype=torch.int8)
    bias = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e20]).repeat(times)
    residual = torch.zeros(1, 4 * times, 2, 2)
    for dtype, ends in ((torch.int8, [-128, 127, -128, 127]), (torch.uint8, [0, 255, 0, 255])):
        for shortcut in (None, residual.to(dtype)):
            found = conv2d_int8(image, weight, bias=bias, out_dtype=dtype, residual=shortcut)
            assert found[0, :, 0, 0].tolist() == ends * times, isa


def test_the_output_dtype_follows_the_scale_if_it_is_not_given() -> None:
    image, weight = random_image(1, 4, 3, 3), random_weight(4, 4, 1, 1)
    assert conv2d_int8(image, weight).dtype == torch.float32
    assert conv2d_int8(image, weight, scale_output=0.5).dtype == torch.uint8


def test_scales_of_every_form_mean_the_same(isa: str) -> None:
    image, weight = random_image(1, 4, 3, 3), random_weight(4, 4, 1, 1)
    expected = sums(image, weight).float() * 0.25
    for scale in (0.25, torch.tensor(0.25), torch.tensor([0.25]), torch.full((4,), 0.25)):
        assert torch.equal(conv2d_int8(image, weight, scale_weight=scale), expected), isa


def test_int32_bias_is_added_exactly(isa: str) -> None:
    image, weight = random_image(1, 12, 6, 6), random_weight(21, 12, 3, 3)
    bias = torch.randint(-(2**30), 2**30, (21,), dtype=torch.int32)
    assert_exact(sums(image, weight, bias=bias), exact(image, weight) + bias[:, None, None], isa)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_reference_backend_agrees(groups: int) -> None:
    image, weight = random_image(2, 8, 6, 6), random_weight(8, 8 // groups, 3, 3)
    options: dict[str, Any] = {"zero_point_input": 7, "padding": 1, "groups": groups}
    requantise = {"scale_input": 0.25, "scale_output": 8.0, "residual": random_image(2, 8, 6, 6)}
    expected = sums(image, weight, 7, padding=1, groups=groups)
    rounded = conv2d_int8(image, weight, **options, **requantise)
    with registry.prefer("reference"):
        assert torch.equal(sums(image, weight, 7, padding=1, groups=groups), expected)
        assert torch.equal(conv2d_int8(image, weight, **options, **requantise), rounded)


# --- torch ----------------------------------------------------------------------------------------


def test_opcheck() -> None:
    weight = random_weight(6, 4, 3, 3)
    torch.library.opcheck(torch.ops.cvperf.pack_conv2d_int8.default, (weight, 2))
    torch.library.opcheck(torch.ops.cvperf.pack_conv2d_int8.default, (weight[:, :1], 6))
    packed = pack_conv2d_int8(weight, 2)
    call = (
        random_image(2, 8, 6, 6), packed.data, packed.shape, packed.groups, 0.5, torch.rand(6), 3,
        torch.randn(6), (1, 2), (1, 1), (1, 1), "relu", random_image(2, 6, 6, 3), 0.5, 2, 0.25, 4,
        torch.uint8,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.cvperf.conv2d_int8.default, call)


class Quantised(torch.nn.Module):
    """A convolution on uint8, with its packed weight as a constant."""

    def __init__(self) -> None:
        super().__init__()
        packed = pack_conv2d_int8(random_weight(5, 4, 3, 3))
        self.register_buffer("weight", packed.data)

    def forward(self, image: Tensor) -> Tensor:
        weight = PackedConv2dInt8(self.weight, (5, 4, 3, 3), 1)
        return conv2d_int8(image, weight, padding=1, scale_output=16.0, activation="relu") + 1


def test_compile_and_export() -> None:
    net, image = Quantised(), random_image(2, 4, 6, 6)
    expected = net(image)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), expected)
    batch = torch.export.Dim("n", min=2)
    exported = torch.export.export(net, (image,), dynamic_shapes=({0: batch},))
    more = random_image(5, 4, 6, 6)
    assert torch.equal(exported.module()(more), net(more))


def test_packed_weights_pass_through_compile() -> None:
    def convolve(image: Tensor, weight: PackedConv2dInt8) -> Tensor:
        return conv2d_int8(image, weight, zero_point_input=3)

    compiled = torch.compile(convolve, fullgraph=True, backend="aot_eager")
    image, packed = random_image(1, 4, 6, 6), pack_conv2d_int8(random_weight(4, 1, 3, 3), 4)
    assert torch.equal(compiled(image, packed), convolve(image, packed))


@pytest.mark.parametrize("weights_only", [True, False])
def test_packed_weights_can_be_saved(weights_only: bool) -> None:
    image, packed = random_image(1, 4, 6, 6), pack_conv2d_int8(random_weight(6, 2, 3, 3), 2)
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=weights_only)
    assert (loaded.shape, loaded.groups) == (packed.shape, packed.groups)
    assert torch.equal(sums(image, loaded), sums(image, packed))
