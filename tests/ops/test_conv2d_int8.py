"""INT8 convolution: exact sums on every instruction set, epilogue, packing, torch, bad input."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import cvperf
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


def epilogue_case(dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Any]]:
    options = {
        "scale_input": 0.02,
        "scale_weight": torch.rand(37) * 0.01 + 1e-3,
        "zero_point_input": 11,
        "bias": torch.randn(37),
        "padding": 1,
    }
    return random_image(2, 20, 7, 9, dtype=dtype), random_weight(37, 20, 3, 3), options


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
def test_requantised_output_is_the_rounded_and_saturated_formula(
    isa: str, out_dtype: torch.dtype, activation: str | None
) -> None:
    image, weight, options = epilogue_case(torch.uint8)
    residual = random_image(2, 37, 7, 9, dtype=out_dtype)
    requantise = {"scale_output": 0.37, "zero_point_output": 5}
    limits = torch.iinfo(out_dtype)
    for scale, zero in ((None, None), (0.21, 17)):
        found = conv2d_int8(
            image, weight, **options, **requantise, activation=activation, residual=residual,
            scale_residual=scale, zero_point_residual=zero, out_dtype=out_dtype,
        )  # fmt: skip
        assert found.dtype == out_dtype
        added = (residual.double() - (5 if zero is None else zero)) * (scale or 0.37)
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
    found = conv2d_int8(
        image, weight, zero_point_input=128, scale_input=0.5, scale_output=2.0,
        zero_point_output=zero, out_dtype=out_dtype,
    )  # fmt: skip
    limits = torch.iinfo(out_dtype)
    value = (exact(image, weight, 128).double() / 4).round() + zero
    assert torch.equal(found, value.clamp(limits.min, limits.max).to(out_dtype)), isa


def test_nan_and_infinity_saturate(isa: str) -> None:
    image, weight = random_image(1, 1, 2, 2), torch.ones(2, 1, 1, 1, dtype=torch.int8)
    bias = torch.tensor([float("nan"), float("inf")])
    for dtype, ends in ((torch.int8, [-128, 127]), (torch.uint8, [0, 255])):
        found = conv2d_int8(image, weight, bias=bias, out_dtype=dtype)
        assert found[0, :, 0, 0].tolist() == ends, isa


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


# --- bad input ------------------------------------------------------------------------------------

X, W = torch.zeros(1, 4, 6, 6, dtype=torch.uint8), torch.zeros(6, 4, 3, 3, dtype=torch.int8)
P = PackedConv2dInt8(pack_conv2d_int8(W).data, (6, 4, 3, 3), 1)
HUGE = torch.zeros(1, 7400, 3, 3, dtype=torch.int8)
INT32 = {"out_dtype": torch.int32}
FLOAT = {"out_dtype": torch.float32}


@pytest.mark.parametrize(
    ("image", "weight", "options", "message"),
    [
        (X.float(), W, {}, r"input must be input\[N, C, H, W\] of one of int8, uint8; got float32"),
        (X[0], W, {}, r"input must be input\[N, C, H, W\], got uint8\[4, 6, 6\]"),
        (X, W.float(), {}, r"weight must be .* of one of int8; got float32"),
        (X, W[0], {}, r"weight must be .*, got int8\[4, 3, 3\]"),
        (X, W[:0], {}, "weight must have no empty dimension"),
        (X, W, {"groups": 4}, "groups must be at least 1 and divide the filters"),
        (X, P, {"groups": 2}, "weight was packed for 1 groups"),
        (X, PackedConv2dInt8(P.data[1:], P.shape, 1), {}, r"weight.data must be uint8\[\d+\]"),
        (X, PackedConv2dInt8(P.data.int(), P.shape, 1), {}, "weight.data must be uint8.*got int32"),
        (X[:, :3], W, {}, "input must have 4 channels"),
        (X, W, {"dilation": 4}, "the kernel reaches over 9 pixels"),
        (X, W, {"stride": 0}, "stride must be at least 1"),
        (X, W, {"padding": -1}, "padding must be at least 0"),
        (HUGE.view(torch.uint8), HUGE, {"padding": 1}, "66600 numbers a filter: above 65793"),
        (X, W, {"activation": "swish"}, "activation must be None or one of"),
        (X, W, {"out_dtype": torch.float64}, "out_dtype must be one of int8, uint8, int32"),
        (X, W, INT32 | {"scale_input": 0.5}, "do not apply to out_dtype=torch.int32"),
        (X, W, INT32 | {"activation": "relu"}, "do not apply to out_dtype=torch.int32"),
        (X, W, INT32 | {"bias": torch.zeros(6)}, r"bias must be bias\[O\] .* of one of int32"),
        (X, W, {"bias": torch.zeros(5)}, r"bias must have one number a filter, O = 6"),
        (X, W, {"zero_point_input": 256}, "zero_point_input must be a value of torch.uint8"),
        (X, W, {"zero_point_input": -1}, "zero_point_input must be a value of torch.uint8"),
        (X, W, FLOAT | {"scale_output": 0.5}, "scale_output .* do not apply"),
        (X, W, {"zero_point_output": 1}, "zero_point_output do not apply"),
        (X, W, {"scale_output": 0.0}, "scale_output must be positive and finite"),
        (X, W, {"scale_input": float("nan")}, "scale_input must be positive and finite"),
        (X, W, {"scale_output": 1.0, "zero_point_output": 300}, "zero_point_output must be"),
        (X, W, {"scale_weight": torch.ones(5)}, r"scale_weight must be .* O = 6"),
        (X, W, {"scale_weight": torch.ones(6).double()}, "scale_weight must be .* float32; got"),
        (X, W, {"residual": torch.zeros(1, 6, 3, 3)}, "residual must have the output's shape"),
        (X, W, {"residual": X, "scale_output": 1.0}, "residual must have the output's shape"),
        (X, W, {"residual": X}, "residual must be residual, as the output of one of float32"),
        (X, W, {"scale_residual": 1.0}, "need an int8 or uint8 residual; it is None"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(
    image: Tensor, weight: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message):
        conv2d_int8(image, weight, **options)


@pytest.mark.parametrize(
    ("image", "weight", "options", "message"),
    [
        ([[1]], W, {}, "input must be a torch.Tensor"),
        (X, [[1]], {}, "weight must be a torch.Tensor .* or a PackedConv2dInt8"),
        (X, W, {"groups": 1.0}, "groups must be an int"),
        (X, W, {"stride": "2"}, "stride must be an int or two"),
        (X, W, {"out_dtype": "int8"}, "out_dtype must be a torch.dtype or None"),
        (X, W, {"scale_input": True}, "scale_input must be a number"),
        (X, W, {"zero_point_input": 1.5}, "zero_point_input must be an int"),
        (X, W, {"bias": 1.0}, "bias must be a torch.Tensor"),
        (X, W, {"residual": 1.0}, "residual must be a torch.Tensor"),
    ],
)
def test_wrong_types_are_named(
    image: Any, weight: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        conv2d_int8(image, weight, **options)
