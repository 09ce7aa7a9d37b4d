"""An ordinary call goes straight to its kernel; a call that torch must see goes through torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from cvperf import _C, ops
from cvperf.ops import _direct, _library


def conv2d(image: Tensor, weight: Tensor) -> Tensor:
    return ops.conv2d(image, weight, padding=1)


@pytest.fixture
def operands() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was decided of each call of the test."""
    decisions: list[bool] = []

    def recorded(*arguments: object) -> bool:
        decisions.append(_direct.ordinary(*arguments))
        return decisions[-1]

    monkeypatch.setattr(_library, "ordinary", recorded)
    return decisions


def test_this_torch_has_what_the_decision_needs() -> None:
    assert _C.missing_from_torch() == ""


@pytest.mark.parametrize(
    "around",
    [torch.no_grad, torch.inference_mode, torch.enable_grad, lambda: torch.autocast("cpu")],
)
def test_a_call_without_gradients_goes_straight(
    operands: tuple[Tensor, Tensor],
    seen: list[bool],
    around: Callable[[], AbstractContextManager[None]],
) -> None:
    expected = torch.ops.cvperf.conv2d(*operands, None, (1, 1), (1, 1), (1, 1), 1, None, None)
    with around():
        got = conv2d(*operands)
    assert seen == [True]
    assert torch.equal(got, expected)


def test_a_parameter_goes_straight_where_nothing_is_recorded(
    operands: tuple[Tensor, Tensor], seen: list[bool]
) -> None:
    image, weight = operands[0], torch.nn.Parameter(operands[1])
    with torch.no_grad():
        assert not conv2d(image, weight).requires_grad
    assert conv2d(image, weight).requires_grad
    assert seen == [True, False]


def test_a_tensor_made_in_inference_mode_goes_straight(seen: list[bool]) -> None:
    with torch.inference_mode():
        boxes, scores = torch.rand(5, 4), torch.rand(5)
    ops.nms(boxes, scores, 0.5)
    assert seen == [True]


def test_vmap_a_lazy_negation_and_a_subclass_go_through_torch(
    operands: tuple[Tensor, Tensor], seen: list[bool]
) -> None:
    class Marked(Tensor):
        pass

    image, weight = operands
    stack = image.expand(2, 1, 3, 8, 8).contiguous()
    mapped = torch.vmap(conv2d, (0, None))(stack, weight)
    assert torch.equal(mapped[1], conv2d(image, weight))
    assert seen[0] is False
    lazy = torch._neg_view(-image)
    assert lazy.is_neg()
    assert torch.allclose(conv2d(lazy, weight), conv2d(image, weight))
    assert isinstance(conv2d(image.as_subclass(Marked), weight), Marked)
    assert seen[-1] is False


def test_a_mode_and_a_trace_see_the_op(operands: tuple[Tensor, Tensor], seen: list[bool]) -> None:
    met = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            met.append(op)
            return op(*args, **(kwargs or {}))

    with Watch():
        conv2d(*operands)
    assert met == [torch.ops.cvperf.conv2d.default]
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(conv2d, tracing_mode=mode)(*operands)
        assert torch.ops.cvperf.conv2d.default in [node.target for node in graph.graph.nodes]
    assert "cvperf::conv2d" in str(torch.jit.trace(conv2d, operands, check_trace=False).graph)
    exported = torch.compile(conv2d, backend="eager", fullgraph=True)(*operands)
    assert torch.equal(exported, conv2d(*operands))


def test_a_profiler_sees_the_op(operands: tuple[Tensor, Tensor]) -> None:
    with torch.profiler.profile() as profile:
        conv2d(*operands)
    assert "cvperf::conv2d" in [event.key for event in profile.key_averages()]


def test_a_tensor_with_a_tangent_goes_through_torch(
    operands: tuple[Tensor, Tensor], seen: list[bool]
) -> None:
    image, weight = operands
    with forward_ad.dual_level():
        conv2d(forward_ad.make_dual(image, torch.ones_like(image)), weight)
    assert seen == [False]
