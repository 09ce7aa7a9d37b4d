"""Batch norm that trains: the float64 reference, torch's running statistics, gradients, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvperf import UnsupportedError, ops
from cvperf.backends import reference
from cvperf.errors import ArgumentError
from cvperf.ops._activation import ACTIVATIONS

LAYOUTS = [torch.contiguous_format, torch.channels_last]
ROUNDING = {torch.bfloat16: 8e-3, torch.float32: 1e-6}

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def tensors(
    shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype = torch.float32
) -> Parts:
    """x, weight, bias, residual."""
    x, residual = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    x = (2 * x + 1).to(dtype)
    return x, torch.randn(shape[1]), torch.randn(shape[1]), residual.to(dtype)


def assert_close(found: Tensor, exact: Tensor, times: float = 1) -> None:
    found, wide = found.detach(), exact.detach().double()
    error = float((found.double() - wide).abs().max() / wide.abs().max())
    assert error <= times * ROUNDING[found.dtype], f"relative error {error:.1e}"


def check(parts: Parts, activation: str | None, with_residual: bool, times: float = 1) -> None:
    """The answer and all gradients against autograd through the reference."""
    taken = [part.clone().requires_grad_() for part in parts[: 4 if with_residual else 3]]
    wide = [part.detach().double().requires_grad_() for part in taken]
    found = ops.batch_norm(
        *taken[:3], activation=activation, residual=taken[3] if with_residual else None
    )
    exact = reference.batch_norm(*wide, *[None] * (4 - len(wide)), 1e-5, activation)[0]
    assert_close(found, exact, times)
    assert found.stride() == parts[0].stride()
    grad = torch.randn_like(found)
    grads = torch.autograd.grad(found, taken, grad)
    for each, expected in zip(grads, torch.autograd.grad(exact, wide, grad.double()), strict=True):
        assert_close(each, expected, times)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_float64_for_any_channels(
    isa: str, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    for channels in (1, 2, 3, 7, 8, 15, 16, 24, 33, 64, 65):
        parts = tensors((3, channels, 5, 7), layout, dtype)
        check(parts, None, with_residual=False)
        if dtype == torch.float32:
            check(parts, "relu", with_residual=True)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_agrees_with_float64_for_any_activation(
    isa: str, layout: torch.memory_format, activation: str | None
) -> None:
    for with_residual in (False, True):
        check(tensors((2, 12, 9, 11), layout), activation, with_residual)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(7, 5, 1, 1), (1, 3, 7, 1), (4, 64, 41, 33), (2, 40, 64, 64)],
                         ids=str)  # fmt: skip
def test_agrees_with_float64_for_any_size(
    isa: str, layout: torch.memory_format, shape: tuple[int, ...]
) -> None:
    """The last ones are cut into segments, of unequal sizes."""
    check(tensors(shape, layout), "relu6", with_residual=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_larger_than_the_caches_are_whole(layout: torch.memory_format) -> None:
    """From 24 MB of all tensors on they are stored past the caches."""
    check(tensors((1, 17, 448, 448), layout), "relu", with_residual=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mean_far_from_zero_costs_no_accuracy(isa: str, layout: torch.memory_format) -> None:
    x, weight, bias, residual = tensors((4, 20, 31, 29), layout)
    check((x + 1e4, weight, bias, residual), "relu", with_residual=False)
    outlier = x.clone()
    outlier[0, :, 0, 0] = 1e5  # what sums of a block are shifted by
    check((outlier, weight, bias, residual), None, with_residual=False, times=10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_running_statistics_are_torchs(isa: str, layout: torch.memory_format) -> None:
    x, weight, bias, _ = tensors((3, 10, 6, 5), layout)
    ours, theirs = ([torch.zeros(10), torch.ones(10)] for _ in range(2))
    for momentum in (0.1, 1.0, 0.3):
        found = ops.batch_norm(x, weight, bias, *ours, momentum=momentum)
        exact = F.batch_norm(x, *theirs, weight, bias, True, momentum)
        torch.testing.assert_close(found, exact)
        torch.testing.assert_close(ours, theirs)
        x = x * 2 - 1


def test_weight_and_bias_may_be_missing(isa: str) -> None:
    x, _, bias, _ = tensors((3, 10, 6, 5), torch.channels_last)
    torch.testing.assert_close(ops.batch_norm(x), F.batch_norm(x, None, None, training=True))
    found = ops.batch_norm(x, bias=bias)
    torch.testing.assert_close(found, F.batch_norm(x, None, None, None, bias, training=True))


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_do_not_depend_on_the_number_of_threads(
    layout: torch.memory_format, threads_restored: None
) -> None:
    x, weight, bias, residual = tensors((2, 24, 70, 71), layout)
    answers = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        taken = [each.clone().requires_grad_() for each in (x, weight, bias, residual)]
        y = ops.batch_norm(*taken[:3], activation="silu", residual=taken[3])
        answers.append([y, *torch.autograd.grad(y.square().sum(), taken)])
    for other in answers[1:]:
        assert all(torch.equal(*pair) for pair in zip(answers[0], other, strict=True))


@pytest.mark.parametrize("wanted", [{0}, {1}, {2}, {3}, {0, 3}], ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_only_gradients_that_are_asked_for_come_back(
    wanted: set[int], activation: str | None
) -> None:
    parts = tensors((2, 5, 4, 4), torch.channels_last)
    taken = [each.requires_grad_(i in wanted) for i, each in enumerate(parts)]
    ops.batch_norm(*taken[:3], activation=activation, residual=taken[3]).square().sum().backward()
    assert {i for i, each in enumerate(taken) if each.grad is not None} == wanted


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_evaluation_uses_the_running_statistics_and_has_gradients(activation: str | None) -> None:
    x, weight, bias, residual = tensors((2, 5, 4, 3), torch.channels_last)
    statistics = (torch.randn(5), torch.rand(5) + 0.5)
    kept = [each.clone() for each in statistics]
    taken = [each.requires_grad_() for each in (x, weight, bias, residual)]
    found = ops.batch_norm(
        *(x, weight, bias, *statistics),
        activation=activation, residual=residual, training=False,
    )  # fmt: skip
    norm = F.batch_norm(x, *statistics, weight, bias)
    expected = reference.activate(activation, norm + residual)
    torch.testing.assert_close(found, expected)
    grads = (torch.autograd.grad(each.square().sum(), taken) for each in (found, expected))
    torch.testing.assert_close(*grads)
    assert all(torch.equal(*pair) for pair in zip(kept, statistics, strict=True))


def test_other_layouts_are_copied() -> None:
    x = torch.randn(4, 9, 6, 10)[:, ::2, :, 1:]
    found = ops.batch_norm(x, activation="relu")
    torch.testing.assert_close(found, F.batch_norm(x, None, None, training=True).relu())


def test_an_answer_changed_in_place_does_not_spoil_the_gradient() -> None:
    x, weight, bias, _ = tensors((2, 5, 4, 3), torch.channels_last)
    grads = []
    for change in (lambda y: y.mul_(2), lambda y: y * 2):
        leaf = x.clone().requires_grad_()
        change(ops.batch_norm(leaf, weight, bias, activation="relu")).square().sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_opcheck_and_compile() -> None:
    x, weight, bias, residual = tensors((2, 3, 4, 5), torch.channels_last)
    x.requires_grad_()
    weight.requires_grad_()
    call = (x, weight, bias, residual, 1e-5, "silu")
    torch.library.opcheck(torch.ops.cvperf.batch_norm.default, call)
    plain = [each.detach() for each in (residual, x, weight, bias, residual)]
    statistics = torch.rand(2, 3).double()
    for wants in (False, True):
        torch.library.opcheck(
            torch.ops.cvperf.batch_norm_backward.default,
            (*plain, *statistics, 1e-5, "relu", wants),
            test_utils=("test_schema", "test_faketensor"),
        )

    def run(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return ops.batch_norm(x * 2, weight, bias, mean, variance, activation="relu")

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    eager, traced = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
    assert torch.equal(compiled(x, *traced), run(x, *eager))
    assert all(torch.equal(*pair) for pair in zip(eager, traced, strict=True))


def test_a_gradient_of_the_gradient_is_refused() -> None:
    x, weight, bias, _ = tensors((2, 3, 4, 5), torch.channels_last)
    x.requires_grad_()
    y = ops.batch_norm(x, weight, bias).square().sum()
    (grad,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(UnsupportedError, match="batch_norm has a first gradient only"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(2, 3)}, r"x must be x\[N, C, H, W\]"),
        ({"x": torch.rand(1, 3, 1, 1)}, "more than one value a channel"),
        ({"x": torch.rand(2, 3, 4, 4).double()}, "no backend serves batch_norm on cpu"),
        ({"weight": torch.rand(4)}, "weight must have one number a channel of x"),
        ({"bias": torch.rand(3, 1)}, r"bias must be bias\[C\]"),
        ({"running_mean": torch.rand(3)}, "both or neither"),
        ({"training": False}, "training=False needs running_mean"),
        ({"residual": torch.rand(2, 3, 1, 1)}, "residual must have the shape of x"),
        ({"residual": torch.rand(2, 3, 4, 4).double()}, "residual and x must have the same dtype"),
        ({"activation": "gelu"}, "activation must be None or one of relu"),
        ({"eps": float("nan")}, "eps is NaN"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"x": torch.rand(2, 3, 4, 4), "weight": torch.rand(3), "bias": torch.rand(3)}
    with pytest.raises(ArgumentError, match=message):
        ops.batch_norm(**{**arguments, **change})


@pytest.mark.parametrize("change", [{"x": 1.0}, {"bias": [1.0]}, {"residual": 3},
                                    {"activation": torch.relu}, {"momentum": None}])  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(change))):
        ops.batch_norm(**{"x": torch.rand(2, 3, 4, 4), **change})


def test_running_statistics_that_cannot_be_written_to_are_refused() -> None:
    frozen = np.zeros(3, "f")
    frozen.flags.writeable = False
    with pytest.raises(ArgumentError, match="running statistics are written to"):
        ops.batch_norm(np.random.rand(2, 3, 4, 4).astype("f"), None, None, frozen, frozen)
