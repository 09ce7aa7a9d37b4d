"""conv2d and its gradients answer as torch does, to float64 accuracy, in every layout and dtype."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf.backends.registry import prefer
from cvperf.errors import ArgumentError
from cvperf.ops import conv2d

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
# Error as a share of the largest sum that was rounded.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
}


@dataclass
class Layer:
    """One generated convolution with its tensors."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    residual: Tensor | None
    activation: str | None
    geometry: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        layout = "nchw" if self.input.is_contiguous() else "channels_last"
        return (
            f"input {list(self.input.shape)} {self.input.dtype} {layout}, "
            f"weight {list(self.weight.shape)}, {self.geometry}, {self.activation}, "
            f"bias {self.bias is not None}, residual {self.residual is not None}"
        )


def generated_layers(count: int, seed: int) -> Iterator[Layer]:
    """Dense, grouped and depthwise layers of odd sizes, most of them float32."""
    choose = random.Random(seed)
    g = torch.Generator().manual_seed(seed)
    made = 0
    while made < count:
        kind = choose.choice(["dense", "dense", "grouped", "depthwise"])
        groups = choose.choice([2, 3, 8]) if kind == "grouped" else 1
        channels = choose.choice([1, 2, 3, 5, 8, 17, 32, 70])
        filters = choose.choice([1, 2, 6, 10, 16, 23, 24, 33, 48, 65])
        if kind == "grouped":
            channels, filters = groups * choose.randint(1, 9), groups * choose.randint(1, 20)
        if kind == "depthwise":
            groups = filters = channels = choose.choice([2, 3, 8, 11, 16, 33, 40])
        kernel = choose.choice([(1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (4, 3), (2, 2), (7, 7)])
        stride = choose.choice([(1, 1), (1, 1), (2, 2), (2, 1), (3, 2)])
        dilation = choose.choice([(1, 1), (1, 1), (2, 2), (1, 3)])
        padding = (choose.randint(0, 4), choose.randint(0, 4))
        size = (choose.randint(1, 16), choose.randint(1, 40))
        if any(size[i] + 2 * padding[i] <= dilation[i] * (kernel[i] - 1) for i in (0, 1)):
            continue
        dtype = choose.choice([torch.float32] * 4 + [torch.float64, torch.float16, torch.bfloat16])
        layout = choose.choice(list(LAYOUTS.values()))

        def tensor(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)

        image = tensor(choose.choice([1, 1, 2, 3]), channels, *size)
        weight = tensor(filters, channels // groups, *kernel)
        if choose.random() < 0.3:
            weight = weight.contiguous(memory_format=torch.channels_last)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = F.conv2d(image.float(), weight.float(), **geometry).shape
        yield Layer(
            image.contiguous(memory_format=layout),
            weight,
            tensor(filters) if choose.random() < 0.5 else None,
            tensor(*shape) if choose.random() < 0.3 else None,
            choose.choice([None, None, *list(ACTIVATIONS)[1:]]),
            geometry,
        )
        made += 1


def expected_sums(layer: Layer, image: Tensor, weight: Tensor) -> Tensor:
    """What the activation is applied to, in float64."""
    bias = None if layer.bias is None else layer.bias.double()
    sums = F.conv2d(image, weight, bias, **layer.geometry)
    return sums if layer.residual is None else sums + layer.residual.double()


def error(got: Tensor, expected: Tensor, scale: Tensor) -> float:
    return float(
        (got.detach().double() - expected.detach()).abs().max()
        / scale.detach().abs().max().clamp(min=1e-30)
    )


def test_256_generated_layers_agree_with_float64(isa: str) -> None:
    for layer in generated_layers(256, seed=1):
        sums = expected_sums(layer, layer.input.double(), layer.weight.double())
        output = conv2d(
            layer.input,
            layer.weight,
            layer.bias,
            **layer.geometry,
            activation=layer.activation,
            residual=layer.residual,
        )
        # sigmoid's slope is below 1 and the others' at most about 1.1, so sums set the scale.
        expected = ACTIVATIONS[layer.activation](sums)
        worst = error(output, expected, torch.maximum(sums.abs().max(), expected.abs().max()))
        assert worst <= TOLERANCE[layer.input.dtype], f"{worst} for {layer}"


def test_gradients_of_200_generated_layers_agree_with_float64(isa: str) -> None:
    for layer in generated_layers(200, seed=2):
        image, weight = layer.input.double(), layer.weight.double()
        sums = F.conv2d(image.requires_grad_(), weight.requires_grad_(), **layer.geometry)
        grad = torch.randn(sums.shape).to(layer.input.dtype)
        expected = torch.autograd.grad(sums, (image, weight), grad.double())

        inputs = (layer.input.requires_grad_(), layer.weight.requires_grad_())
        got = torch.autograd.grad(conv2d(*inputs, **layer.geometry), inputs, grad)
        for name, ours, theirs in zip(("input", "weight"), got, expected, strict=True):
            worst = error(ours, theirs, theirs)
            assert worst <= TOLERANCE[layer.input.dtype], f"{name} gradient: {worst} for {layer}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_layers_agree_with_float64(layout: str, isa: str) -> None:
    """Several blocks of pixels, of filters and of the sum."""
    for channels, filters, size, kernel, stride in [
        (600, 50, 12, 3, 1),
        (70, 300, 15, 3, 2),
        (1030, 70, 11, 1, 1),
        (20, 64, 41, 7, 2),
    ]:
        image = torch.randn(2, channels, size, size).contiguous(memory_format=LAYOUTS[layout])
        weight = torch.randn(filters, channels, kernel, kernel)
        geometry = {"stride": stride, "padding": kernel // 2}
        inputs = (image.requires_grad_(), weight.requires_grad_())
        wide = [each.detach().double().requires_grad_() for each in inputs]
        output, expected = conv2d(*inputs, **geometry), F.conv2d(*wide, **geometry)
        grad = torch.randn_like(output)
        pairs = zip(
            (output, *torch.autograd.grad(output, inputs, grad)),
            (expected, *torch.autograd.grad(expected, wide, grad.double())),
            strict=True,
        )
        for name, (ours, theirs) in zip(("output", "input", "weight"), pairs, strict=True):
            worst = error(ours, theirs, theirs)
            assert worst <= 1e-5, f"{name}: {worst} for {channels}->{filters} k{kernel} s{stride}"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck_and_gradgradcheck_in_float64(activation: str | None) -> None:
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(2, 6, 3, 6, dtype=torch.float64, requires_grad=True)

    def layer(image: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        return conv2d(
            image, weight, bias, (2, 1), (1, 1), (1, 2), 2, activation=activation, residual=residual
        )

    inputs = (image, weight, bias, residual)
    assert torch.autograd.gradcheck(layer, inputs, fast_mode=True)
    if activation in (None, "relu", "sigmoid", "leaky_relu"):
        assert torch.autograd.gradgradcheck(layer, inputs, fast_mode=True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_through_an_activation_agree_with_torch(activation: str | None) -> None:
    image, weight = torch.randn(2, 8, 9, 9) * 3, torch.randn(12, 8, 3, 3)
    bias, residual = torch.randn(12), torch.randn(2, 12, 9, 9)
    grad = torch.randn(2, 12, 9, 9)
    inputs = [each.requires_grad_() for each in (image, weight, bias, residual)]
    ours = conv2d(image, weight, bias, padding=1, activation=activation, residual=residual)
    wide = [each.detach().double().requires_grad_() for each in inputs]
    theirs = ACTIVATIONS[activation](F.conv2d(*wide[:3], padding=1) + wide[3])
    got = torch.autograd.grad(ours, inputs, grad)
    expected = torch.autograd.grad(theirs, wide, grad.double())
    names = ("input", "weight", "bias", "residual")
    for name, one, other in zip(names, got, expected, strict=True):
        worst = error(one, other, other)
        assert worst < 1e-5, f"gradient of {name} through {activation}: {worst}"


@pytest.mark.parametrize("activation", list(ACTIVATIONS)[1:])
def test_nan_and_infinity_pass_through_an_activation_as_in_torch(activation: str, isa: str) -> None:
    image = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -200.0, 200.0, 3.0, -3.0])
    image = image.reshape(1, 1, 1, 8)
    weight = torch.ones(1, 1, 1, 1)
    got = conv2d(image, weight, activation=activation)
    expected = ACTIVATIONS[activation](F.conv2d(image, weight))
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=2e-6, atol=1e-37)


def test_strides_of_the_output_and_of_the_gradients_are_torchs() -> None:
    shapes = [(2, 4, 5, 6), (2, 1, 5, 6), (2, 4, 1, 1), (1, 4, 5, 1), (1, 1, 1, 1), (0, 4, 5, 6)]
    for shape, image_layout, weight_layout, kernel in itertools.product(
        shapes, LAYOUTS.values(), LAYOUTS.values(), (1, 3)
    ):
        image = torch.randn(shape).contiguous(memory_format=image_layout)
        weight = torch.randn(6, shape[1], kernel, kernel).contiguous(memory_format=weight_layout)
        ours, theirs = conv2d(image, weight, padding=1), F.conv2d(image, weight, padding=1)
        assert ours.shape == theirs.shape
        assert ours.stride() == theirs.stride(), (
            f"input {shape} {image.stride()}, weight {weight.stride()}: "
            f"{ours.stride()} and torch {theirs.stride()}"
        )


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 3), (5, 2)])
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
def test_padding_by_name_is_torchs(kernel: tuple[int, int], dilation: Any) -> None:
    image, weight = torch.randn(2, 3, 12, 13), torch.randn(4, 3, *kernel)
    for padding in ("same", "valid"):
        ours = conv2d(image, weight, padding=padding, dilation=dilation)
        theirs = F.conv2d(image, weight, padding=padding, dilation=dilation)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_an_image_without_a_batch_and_a_batch_without_images() -> None:
    image, weight, bias = torch.randn(3, 9, 8), torch.randn(5, 3, 3, 3), torch.randn(5)
    residual = torch.randn(5, 7, 6)
    ours = conv2d(image, weight, bias, residual=residual, activation="relu")
    theirs = F.relu(F.conv2d(image, weight, bias) + residual)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)

    empty = torch.randn(0, 3, 9, 8, requires_grad=True)
    weight.requires_grad_()
    output = conv2d(empty, weight, bias)
    assert output.shape == (0, 5, 7, 6)
    image_grad, weight_grad = torch.autograd.grad(output.sum(), (empty, weight))
    assert image_grad.shape == empty.shape
    assert torch.equal(weight_grad, torch.zeros_like(weight))


def test_any_strides_are_served() -> None:
    base = torch.randn(2, 8, 12, 20)
    weight = torch.randn(5, 3, 6, 4).transpose(2, 3)[:, :, :3, ::2]
    for image in (base[:, ::3], base[..., ::2][:, :3], base.transpose(2, 3)[:, 2:5], base[:, :3]):
        ours, theirs = conv2d(image, weight), F.conv2d(image, weight)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    expanded = torch.randn(1, 3, 1, 9).expand(2, 3, 7, 9)
    torch.testing.assert_close(conv2d(expanded, weight), F.conv2d(expanded, weight))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 4, 32])
def test_the_same_bits_whatever_the_number_of_threads(layout: str, groups: int, isa: str) -> None:
    image = torch.randn(2, 32, 27, 29).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    weight = torch.randn(32, 32 // groups, 3, 3, requires_grad=True)
    grad = torch.randn(2, 32, 14, 15)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            output = conv2d(image, weight, stride=2, padding=1, groups=groups)
            results.append((output, *torch.autograd.grad(output, (image, weight), grad)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, one, two in zip(("output", "input", "weight"), results[0], other, strict=True):
            assert torch.equal(one, two), f"{name} differs by {(one - two).abs().max()}"


def test_the_reference_backend_gives_the_same_answers() -> None:
    image = torch.randn(2, 4, 7, 8, requires_grad=True)
    weight = torch.randn(6, 2, 3, 3, requires_grad=True)

    def answers() -> list[Tensor]:
        output = conv2d(image, weight, stride=2, padding=1, groups=2, activation="silu")
        return [output, *torch.autograd.grad(output.sum(), (image, weight))]

    ours = answers()
    with prefer("reference"):
        theirs = answers()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_opcheck(layout: str, activation: str | None) -> None:
    image = torch.randn(2, 4, 7, 8).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    weight, bias = torch.randn(6, 2, 3, 3, requires_grad=True), torch.randn(6, requires_grad=True)
    residual = torch.randn(2, 6, 4, 4, requires_grad=True)
    geometry = ([2, 2], [1, 1], [1, 1], 2)
    ops = torch.ops.cvperf
    torch.library.opcheck(ops.conv2d, (image, weight, bias, *geometry, activation, residual))
    grad = torch.randn(2, 6, 4, 4).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    torch.library.opcheck(ops.conv2d_input_grad, (grad, weight, [2, 4, 7, 8], *geometry))
    torch.library.opcheck(ops.conv2d_weight_grad, (grad, image, [6, 2, 3, 3], *geometry))


class SmallNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.second = torch.nn.Parameter(torch.randn(8, 1, 3, 3) * 0.2)
        self.bias = torch.nn.Parameter(torch.randn(8))

    def forward(self, image: Tensor) -> Tensor:
        image = conv2d(image, self.first, self.bias, 2, 1, activation="hardswish")
        return conv2d(image, self.second, padding="same", groups=8, residual=image)


def test_torch_compile_takes_it_whole_with_gradients() -> None:
    net, image = SmallNet(), torch.randn(2, 3, 12, 14)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    expected, got = net(image), compiled(image)
    torch.testing.assert_close(got, expected)
    parameters = list(net.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(got.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_torch_export_with_a_dynamic_batch() -> None:
    net = SmallNet()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(
        net, (torch.randn(2, 3, 12, 14),), dynamic_shapes={"image": {0: batch}}
    )
    image = torch.randn(5, 3, 12, 14)
    torch.testing.assert_close(program.module()(image), net(image))


GOOD = {"input": torch.zeros(1, 4, 5, 5), "weight": torch.zeros(6, 4, 3, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(4, 5)}, "input must be"),
        ({"input": torch.zeros(1, 4, 5, 5, dtype=torch.int32)}, "float16, bfloat16"),
        ({"input": torch.zeros(1, 3, 5, 5)}, "input must have 4 channels"),
        ({"weight": torch.zeros(6, 4, 3)}, "weight must be"),
        ({"weight": torch.zeros(0, 4, 3, 3)}, "no empty dimension"),
        ({"weight": torch.zeros(6, 4, 3, 3, dtype=torch.float64)}, "same dtype"),
        ({"weight": torch.zeros(6, 4, 3, 3, device="meta")}, "same device"),
        ({"weight": torch.zeros(6, 4, 7, 3)}, "kernel reaches over 7"),
        ({"bias": torch.zeros(5)}, "bias must have one number a filter"),
        ({"bias": torch.zeros(6, 1)}, "bias must be"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"padding": "full"}, "'same' or 'valid'"),
        ({"padding": "same", "stride": 2}, "needs stride 1"),
        ({"dilation": (1, 0)}, "dilation must be at least 1"),
        ({"groups": 0}, "groups must be"),
        ({"groups": 4}, "groups must be"),
        ({"activation": "tanh"}, "activation must be None or one of"),
        ({"residual": torch.zeros(1, 6, 5, 5)}, "residual must have the output's shape"),
        ({"residual": torch.zeros(6)}, "residual must be"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        conv2d(**{**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"input": [[0.0]]},
        {"weight": None},
        {"bias": 1.0},
        {"stride": 1.5},
        {"stride": (1, 2, 3)},
        {"dilation": True},
        {"groups": 1.0},
        {"activation": F.relu},
        {"residual": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_arguments_of_the_wrong_type_raise_type_error(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        conv2d(**{**GOOD, **change})
