"""Fused graphs compute what they did, in fewer operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d

from cvperf.engine import capture, fuse
from cvperf.engine.passes.convolution import ACTIVATION, CONV2D, DEPTH_TO_SPACE, RESIDUAL


def fused(model: nn.Module, *inputs: Tensor) -> fx.GraphModule:
    """The fused graph, checked against the model."""
    model = model.double().eval()
    inputs = tuple(each.double() for each in inputs)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
                norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                if norm.affine:
                    norm.weight.uniform_(0.5, 2)
                    norm.bias.uniform_(-1, 1)
    graph = capture(model, inputs, {}).graph
    fuse(graph)
    with torch.no_grad():
        torch.testing.assert_close(graph(*inputs)[0], model(*inputs))
    return graph


def operators(graph: fx.GraphModule) -> Counter[str]:
    return Counter(str(n.target) for n in graph.graph.nodes if n.op == "call_function")


def convolutions(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.target == CONV2D]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_goes_into_the_weight(bias: bool, affine: bool) -> None:
    layer = nn.Conv2d(3, 4, 3, bias=bias)
    graph = fused(nn.Sequential(layer, nn.BatchNorm2d(4, affine=affine)), torch.rand(2, 3, 6, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 1}


def test_batch_norm_before_a_convolution_is_a_layer_of_one_tap() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3))
    graph = fused(model, torch.rand(2, 3, 6, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 2}
    assert convolutions(graph)[0].args[ACTIVATION] == "relu"


def test_batch_norm_of_rows_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert operators(fused(model, torch.rand(2, 3)))["aten.linear.default"] == 1


def test_batch_norm_of_a_shared_convolution_is_not_folded() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return self.norm(y) * y

    fused(Shared(), torch.rand(2, 3, 6, 6))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.ReLU(inplace=True), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.SiLU(), "silu"),
        (nn.Hardswish(), "hardswish"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.LeakyReLU(), "leaky_relu"),
    ],
)
def test_an_activation_is_the_convolutions(module: nn.Module, name: str) -> None:
    graph = fused(nn.Sequential(nn.Conv2d(3, 4, 3), module), torch.rand(2, 3, 6, 6) - 0.5)
    (layer,) = convolutions(graph)
    assert operators(graph).total() == 1
    assert layer.args[ACTIVATION] == name


@pytest.mark.parametrize("module", [nn.LeakyReLU(0.2), nn.Hardtanh(-1, 1), nn.Tanh()])
def test_other_activations_stay(module: nn.Module) -> None:
    graph = fused(nn.Sequential(nn.Conv2d(3, 4, 3), module), torch.rand(2, 3, 6, 6) - 0.5)
    assert operators(graph).total() == 2


class Residual(nn.Module):
    """As a block of a residual network, the shortcut first, last or both ways a convolution."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.order == "input":
            return torch.relu(x + self.one(x))
        if self.order == "later":
            early = self.one(x)
            return torch.relu(early + x.mean((2, 3), keepdim=True).expand_as(x).contiguous())
        if self.order == "both":
            return torch.relu(self.one(x) + self.two(x))
        y = self.one(x)
        return torch.relu(y + y)


@pytest.mark.parametrize("order", ["input", "later", "both"])
def test_a_sum_and_its_activation_are_the_convolutions(order: str) -> None:
    graph = fused(Residual(order), torch.rand(2, 4, 6, 6) - 0.5)
    last = convolutions(graph)[-1]
    assert isinstance(last.args[RESIDUAL], fx.Node)
    assert last.args[ACTIVATION] == "relu"
    assert "aten.add.Tensor" not in operators(graph)


def test_a_convolution_is_not_added_to_itself() -> None:
    graph = fused(Residual("itself"), torch.rand(2, 4, 6, 6) - 0.5)
    assert operators(graph)["aten.add.Tensor"] == 1


def test_a_sum_that_widens_stays() -> None:
    class Widens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(4, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + x[:, :, :1, :1]

    graph = fused(Widens(), torch.rand(2, 4, 6, 6))
    assert operators(graph)["aten.add.Tensor"] == 1


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("kernel", [3, 2, (3, 1)])
def test_padding_by_name(padding: str | int, kernel: int | tuple[int, int]) -> None:
    fused(nn.Conv2d(3, 4, kernel, padding=padding), torch.rand(2, 3, 6, 7))


# --- factors and summands a channel


def test_frozen_batch_norm_goes_into_the_weight() -> None:
    norm = FrozenBatchNorm2d(4)
    for each in norm.buffers():
        each.uniform_(0.5, 2)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU())
    graph = fused(model, torch.rand(2, 3, 6, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 1}


class _Affine(nn.Module):
    """A function of a convolution's images and of what each channel has."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], shape: list[int]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.function = function
        self.channels = nn.Buffer(torch.rand(shape) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x), self.channels)


@pytest.mark.parametrize("shape", [[1, 4, 1, 1], [4, 1, 1], [1], []])
@pytest.mark.parametrize(
    "function",
    [
        lambda x, c: x * c,
        lambda x, c: c * x + 1,
        lambda x, c: x / c,
        lambda x, c: x - c,
        lambda x, c: torch.sub(x, c, alpha=3),
        lambda x, c: torch.add(c, x) / 2,
    ],
)
def test_an_affine_map_goes_into_the_weight(
    function: Callable[[Tensor, Tensor], Tensor], shape: list[int]
) -> None:
    graph = fused(_Affine(function, shape), torch.rand(2, 3, 6, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 1}


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x, c: x * c, [4]),  # one a column
        (lambda x, c: x * c, [1, 1, 4, 4]),  # one a pixel
        (lambda x, c: x * c, [2, 4, 1, 1]),  # one an image
        (lambda x, c: c - x, [4, 1, 1]),
        (lambda x, c: c / x, [4, 1, 1]),
        (lambda x, c: torch.add(c, x, alpha=2), [4, 1, 1]),
        (lambda x, c: x * c + x, [4, 1, 1]),  # others read the convolution
        (lambda x, c: x.relu() * c, [4, 1, 1]),
    ],
)
def test_other_maps_keep_their_value(
    function: Callable[[Tensor, Tensor], Tensor], shape: list[int]
) -> None:
    graph = fused(_Affine(function, shape), torch.rand(2, 3, 6, 6))
    assert sum(operators(graph).values()) > 1


def test_what_depends_on_weights_alone_is_computed_once() -> None:
    model = _Affine(lambda x, c: x.relu() * (c + 1).sqrt().reshape(1, 4, 1, 1), [4])
    names = operators(fused(model, torch.rand(2, 3, 6, 6)))
    assert names == {"cvperf.conv2d.default": 1, "aten.mul.Tensor": 1}


def test_constants_that_grow_or_are_random_stay() -> None:
    grows = _Affine(lambda x, c: x.relu() * c.repeat(1, 1, 4, 4), [1, 4, 1, 1])
    assert operators(fused(grows, torch.rand(2, 3, 6, 6)))["aten.repeat.default"] == 1
    model = _Affine(lambda x, c: x.relu() + torch.bernoulli(c), [4, 1, 1])
    graph = capture(model.eval(), (torch.rand(2, 3, 6, 6),), {}).graph
    fuse(graph)
    assert operators(graph)["aten.bernoulli.default"] == 1


# --- transposed convolutions


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [2, (3, 1)])
def test_a_transposed_convolution_apart_is_a_convolution(
    kernel: int | tuple[int, int], bias: bool
) -> None:
    up = nn.ConvTranspose2d(3, 4, kernel, kernel, bias=bias)
    graph = fused(nn.Sequential(up, nn.BatchNorm2d(4), nn.ReLU()), torch.rand(2, 3, 5, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 1, "cvperf.depth_to_space.default": 1}
    assert convolutions(graph)[0].args[ACTIVATION] == "relu"


def test_pixels_of_no_images_are_moved_too() -> None:
    """A mask head where a detector found no box; calibration runs the graph as it is."""
    assert DEPTH_TO_SPACE(torch.empty(0, 12, 5, 6), 2, 2).shape == (0, 3, 10, 12)


@pytest.mark.parametrize(
    "up",
    [
        nn.ConvTranspose2d(3, 4, 3, 2),
        nn.ConvTranspose2d(3, 4, 2, 2, 1),
        nn.ConvTranspose2d(3, 4, 2, 2, output_padding=1),
        nn.ConvTranspose2d(4, 4, 2, 2, groups=2),
        nn.ConvTranspose2d(3, 4, 2, 2, dilation=2),
    ],
)
def test_other_transposed_convolutions_stay(up: nn.ConvTranspose2d) -> None:
    names = operators(fused(up, torch.rand(2, up.in_channels, 5, 6)))
    assert names["aten.conv_transpose2d.input"] == 1


# --- flattened images


def _flat(count: int, **format: torch.memory_format) -> fx.GraphModule:
    head = nn.Sequential(nn.Flatten(1), nn.Linear(3 * 5 * 4, 7))
    return fused(head, torch.rand(count, 3, 5, 4).to(**format))


def test_an_image_with_its_channels_last_is_flattened_as_it_lies() -> None:
    names = operators(_flat(16, memory_format=torch.channels_last))
    assert names == {"aten.permute.default": 1, "aten.reshape.default": 1, "aten.linear.default": 1}


def test_other_images_are_flattened_as_by_torch() -> None:
    few = operators(_flat(2, memory_format=torch.channels_last))
    assert few["aten.clone.default"] == 1
    assert "aten.permute.default" not in operators(_flat(16))


@pytest.mark.parametrize("first", [torch.contiguous_format, torch.channels_last])
def test_a_graph_holds_for_images_in_the_other_order_too(first: torch.memory_format) -> None:
    graph = _flat(16, memory_format=first)
    image = torch.rand(16, 3, 5, 4).double()
    one, other = (
        image.to(memory_format=each) for each in (torch.contiguous_format, torch.channels_last)
    )
    torch.testing.assert_close(graph(one), graph(other))


class _FlattenedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(60, 7), nn.Linear(60, 7)

    def forward(self, image: Tensor) -> Tensor:
        rows = image.flatten(1)
        return self.one(rows) + self.other(rows)


def test_rows_that_others_read_too_are_copied_once() -> None:
    image = torch.rand(16, 3, 5, 4).to(memory_format=torch.channels_last)
    assert operators(fused(_FlattenedTwice(), image))["aten.clone.default"] == 1


class Standardised(nn.Conv2d):
    """timm's StdConv2d: a weight of mean 0 and variance 1 a filter, by batch norm of the weight."""

    def forward(self, image: Tensor) -> Tensor:
        weight = nn.functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True
        ).reshape_as(self.weight)
        return nn.functional.conv2d(image, weight, self.bias)


def test_a_weight_that_is_computed_is_computed_once_and_takes_the_norm_in() -> None:
    model = nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    graph = fused(model, torch.rand(2, 3, 6, 6))
    assert operators(graph) == {"cvperf.conv2d.default": 1}
    assert convolutions(graph)[0].args[ACTIVATION] == "relu"
