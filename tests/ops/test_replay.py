"""Calls with packed weights that were checked once are run again without the checks."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from cvperf import ops


class Op:
    """One op with a packed weight, and what it computes."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        integers = torch.randint(-128, 128, (16, 8, 3, 3), dtype=torch.int8)
        self.packed: Any
        if kind == "conv2d":
            self.weight: Tensor = torch.randn(16, 8, 3, 3)
            self.packed = ops.pack_conv2d(self.weight)
        elif kind == "conv2d_int8":
            self.weight = integers
            self.packed = ops.pack_conv2d_int8(self.weight)
        else:
            self.weight = integers[:, :, 0, 0].t().contiguous()
            self.packed = ops.pack_int8(self.weight)

    def input(self, size: int = 9) -> Tensor:
        if self.kind == "conv2d":
            return torch.randn(1, 8, size, size).contiguous(memory_format=torch.channels_last)
        if self.kind == "conv2d_int8":
            image = torch.randint(-128, 128, (1, 8, size, size), dtype=torch.int8)
            return image.contiguous(memory_format=torch.channels_last)
        return torch.randint(-128, 128, (size, 8), dtype=torch.int8)

    def __call__(self, input: Tensor, bias: Tensor | None = None, packed: Any = None) -> Tensor:
        weight = self.packed if packed is None else packed
        if self.kind == "conv2d":
            return ops.conv2d(input, weight, bias, padding=1)
        if self.kind == "conv2d_int8":
            return ops.conv2d_int8(input, weight, bias=bias, padding=1)
        return ops.int8_gemm(input, weight, bias=bias, out_dtype=torch.float32)

    def expected(self, input: Tensor, bias: Tensor | None = None) -> Tensor:
        wide, weight = input.double(), self.weight.double()
        plus = None if bias is None else bias.double()
        if self.kind == "int8_gemm":
            return wide @ weight + (0 if plus is None else plus)
        return torch.nn.functional.conv2d(wide, weight, plus, padding=1)

    def check(self, input: Tensor, bias: Tensor | None = None, packed: Any = None) -> None:
        got, expected = self(input, bias, packed), self.expected(input, bias)
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.fixture(params=["conv2d", "conv2d_int8", "int8_gemm"])
def op(request: pytest.FixtureRequest) -> Op:
    torch.manual_seed(0)
    return Op(request.param)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Op], list[bool]]:
    """Lists, from then on, whether each call with an op's weight was one remembered."""

    def watch(op: Op) -> list[bool]:
        seen: list[bool] = []
        real = op.packed.replays()

        class Watched:
            def again(self, *arguments: object) -> Tensor | None:
                known: Tensor | None = real.again(*arguments)
                seen.append(known is not None)
                return known

            remember = staticmethod(real.remember)

        monkeypatch.setitem(op.packed.__dict__, "_replays", Watched())
        return seen

    return watch


def test_the_second_call_of_a_layout_is_replayed(
    op: Op, replayed: Callable[[Op], list[bool]]
) -> None:
    seen = replayed(op)
    for size in (9, 9, 4, 9, 4):
        op.check(op.input(size))
    op.check(op.input(), torch.randn(16))
    op.check(op.input(), torch.randn(16))
    assert seen == [False, True, False, True, True, False, True]


def test_another_layout_or_dtype_is_another_call(op: Op) -> None:
    op.check(op.input())
    op.check(op.input())
    if op.kind == "int8_gemm":
        op.check(torch.randint(-128, 128, (8, 9), dtype=torch.int8).t())
        op.check(torch.randint(-128, 128, (9, 16), dtype=torch.int8)[:, ::2])
        op.check(torch.randint(0, 256, (9, 8), dtype=torch.uint8))
    else:
        op.check(op.input().contiguous())  # NCHW
        op.check(op.input(18)[:, :, ::2, ::2])
        op.check(op.input().flip(3).permute(0, 1, 3, 2))
    with pytest.raises(ValueError, match="float16"):
        op(op.input().half())


def test_a_vector_that_must_be_copied_is_copied_in_each_call(op: Op) -> None:
    image = op.input()
    for _ in range(3):
        op.check(image, torch.randn(32)[::2])


def test_nothing_that_can_change_is_remembered(replayed: Callable[[Op], list[bool]]) -> None:
    op = Op("conv2d")
    seen, image, padding = replayed(op), op.input(), [1, 1]
    assert ops.conv2d(image, op.packed, padding=padding).shape[2:] == (9, 9)
    padding[0] = 0
    assert ops.conv2d(image, op.packed, padding=padding).shape[2:] == (7, 9)
    assert seen == [False, False]


def test_equal_values_of_other_types_are_checked_again(op: Op) -> None:
    image = op.input()
    if op.kind == "int8_gemm":
        ops.int8_gemm(image, op.packed, zero_a=1)
        with pytest.raises(TypeError, match="zero_a must be an int"):
            ops.int8_gemm(image, op.packed, zero_a=1.0)  # type: ignore[arg-type]
        return
    function: Any = ops.conv2d if op.kind == "conv2d" else ops.conv2d_int8
    function(image, op.packed, stride=1)
    for wrong in (True, 1.0):
        with pytest.raises(TypeError, match="stride must be"):
            function(image, op.packed, stride=wrong)


def test_copies_and_files_of_a_weight_start_anew(op: Op) -> None:
    op.check(op.input())
    buffer = io.BytesIO()
    torch.save(op.packed, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=op.kind != "conv2d")
    for other in (copy.deepcopy(op.packed), pickle.loads(pickle.dumps(op.packed)), loaded):
        assert "_replays" not in other.__dict__
        op.check(op.input(), packed=other)


def test_a_weight_whose_memory_moves_is_found_again(op: Op) -> None:
    op.check(op.input())
    tensors = [op.packed.weight, *op.packed._forms.values()] if op.kind == "conv2d" else []
    for tensor in tensors or [op.packed.data]:
        if tensor is not None:
            before = tensor.data_ptr()
            tensor.share_memory_()
            assert tensor.data_ptr() != before
    op.check(op.input())


def test_what_torch_must_see_is_not_replayed(
    replayed: Callable[[Op], list[bool]],
) -> None:
    op = Op("conv2d")
    op.check(op.input())
    seen = replayed(op)
    image = op.input()
    lazy = torch._neg_view(-image)
    op.check(lazy)
    stack = torch.stack([image, 2 * image])
    mapped = torch.vmap(op)(stack)
    torch.testing.assert_close(mapped[1], 2 * op.expected(image).float(), rtol=1e-5, atol=1e-4)
    assert op(image.clone().requires_grad_()).requires_grad
    with torch.profiler.profile() as profile:
        op(image)
    assert "cvperf::conv2d" in [event.key for event in profile.key_averages()]
    assert seen == [False] * len(seen)
    assert torch.compile(op, backend="eager", fullgraph=True)(image).shape == (1, 16, 9, 9)


def test_threads_may_call_with_more_sizes_than_are_kept(op: Op) -> None:
    inputs = [op.input(size) for size in range(1, 90)]
    expected = [op(input) for input in inputs]

    def work(_: int) -> bool:
        return all(
            torch.equal(op(input), wanted)
            for input, wanted in zip(inputs, expected, strict=True)
            for _ in range(2)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
