"""Every public op takes arrays of NumPy, CuPy and other libraries, and answers with the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

import cvperf
from cvperf import ops
from cvperf.ops import _arrays

Call = tuple[tuple[Any, ...], dict[str, Any]]


def boxes_of(count: int, *batch: int) -> Tensor:
    corners = torch.rand(*batch, count, 4) * 8
    corners[..., 2:] += corners[..., :2]
    return corners


def bytes_of(*shape: int, dtype: torch.dtype = torch.int8) -> Tensor:
    return torch.randint(0, 8, shape, dtype=dtype)


def channels_last(*shape: int) -> Tensor:
    return torch.rand(shape).contiguous(memory_format=torch.channels_last)


ROIS = torch.tensor([[0, 0.0, 0, 6, 6], [1, 1, 1, 9, 7]])
FLOAT = {"out_dtype": torch.float32}


def some_calls() -> dict[str, list[Call]]:
    """Calls of each public op with tensors, such that every argument that can be one is one."""
    torch.manual_seed(0)
    boxes, scores, image = boxes_of(20), torch.rand(20), channels_last(2, 4, 8, 8)
    weight, packed = torch.rand(8, 4, 3, 3), ops.pack_conv2d(torch.rand(8, 4, 3, 3))
    a, b, filters = bytes_of(6, 32), bytes_of(32, 8), bytes_of(8, 4, 3, 3)
    epilogue = {"scale_b": torch.rand(8), "bias": torch.rand(8), "activation": "relu"}
    pixels, per_channel = bytes_of(2, 4, 8, 8, dtype=torch.uint8), torch.rand(4) + 1
    zeros, half = bytes_of(4).to(torch.int32), torch.rand(3, 64).half()
    nibbles = ops.pack_int4(bytes_of(8, 64) - 4)
    quantised = {"scale_weight": torch.rand(8), "bias": torch.rand(8), "scale_output": 0.5}
    pyramid = [channels_last(2, 4, 16, 16), channels_last(2, 4, 8, 8)]
    return {
        "nms": [((boxes, scores, 0.5), {}), ((), dict(zip(NMS, (boxes, scores, 0.5), strict=True)))],
        "batched_nms": [((boxes, scores, torch.arange(20) % 3, 0.5), {})],
        "nms_padded": [((boxes_of(9, 2), torch.rand(2, 9), 0.5, 4), {})],
        "soft_nms": [((boxes, scores), {"method": "gaussian"})],
        "roi_align": [
            ((image, ROIS, 3), {"sampling_ratio": 2}),
            ((image.contiguous(), [boxes_of(3), boxes_of(2)], (2, 3)), {}),
        ],
        "roi_pool": [((image, ROIS, 3), {}), ((image, (boxes_of(3), boxes_of(2)), 2), {})],
        "multiscale_roi_align": [((pyramid, ROIS, 2, (0.5, 0.25)), {"aligned": True})],
        "conv2d": [
            ((image, weight, torch.rand(8)), {"padding": 1, "residual": torch.rand(2, 8, 8, 8)}),
            ((image.contiguous(), weight), {"stride": 2}),
            ((image, packed), {"activation": "silu"}),
        ],
        "pack_conv2d": [((weight,), {"scale": torch.rand(8)})],
        "bias_activation": [((image, torch.rand(4)), {"residual": torch.rand(2, 4, 8, 8)})],
        "int8_gemm": [((a, b), {}), ((a, ops.pack_int8(b)), {**epilogue, **FLOAT})],
        "pack_int8": [((b,), {}), ((b.t().contiguous().t(),), {})],
        "conv2d_int8": [
            ((pixels, filters), {**quantised, "zero_point_input": 3}),
            ((pixels, ops.pack_conv2d_int8(filters)), FLOAT),
        ],
        "pack_conv2d_int8": [((filters,), {})],
        "int4_linear": [((half, nibbles, torch.rand(8, 2).half()), {"zero": bytes_of(8, 2)})],
        "pack_int4": [((bytes_of(8, 64),), {})],
        "quantize": [((image, per_channel, zeros), {"axis": 1}), ((image, 0.5), {})],
        "dequantize": [((pixels, per_channel, zeros), {"axis": 1})],
        "paste_masks": [((torch.rand(20, 5, 5), boxes, (16, 12)), {})],
        "normalize_image": [((pixels.permute(0, 2, 3, 1), [0.5] * 4, [0.2] * 4), NHWC)],
    }


NMS, NHWC = ("boxes", "scores", "iou_threshold"), {"layout": "NHWC"}
CALLS = some_calls()
PUBLIC = [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]
each_op = pytest.mark.parametrize("name", PUBLIC)


# --- a library as CuPy is, on the CPU --------------------------------------------------------------


class Foreign:
    """An array that is nothing but what DLPack asks for, and knows where it was made."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype

    def __dlpack__(self, *, stream: int | None = None) -> object:
        assert stream is None
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    library = ModuleType("foreign")
    library.from_dlpack = lambda exported: Foreign(torch.from_dlpack(exported))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "foreign", library)
    monkeypatch.setattr(Foreign, "__module__", "foreign._core.core")
    return library


def mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """``value`` with each ``kind`` in it changed, also in lists, tuples and dictionaries."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(each, kind, change) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(each, kind, change) for each in value)
    return value


def parts(answer: Any) -> list[Any]:
    """The tensors or arrays of an answer; of packed weights, what they are made of."""
    if isinstance(answer, tuple):
        return list(answer)
    if isinstance(answer, ops.PackedConv2d):
        return [answer.weight]
    packed = isinstance(answer, (ops.PackedInt8, ops.PackedConv2dInt8))
    return [answer.data if packed else answer]


def assert_same(array: Any, expected: Tensor) -> None:
    """Bit for bit, with the same strides."""
    got = torch.from_dlpack(array)
    assert (got.dtype, got.shape, got.stride()) == (
        *(expected.dtype, expected.shape, expected.stride()),
    )
    assert torch.equal(got, expected)


def test_the_calls_below_are_of_every_public_op() -> None:
    assert set(CALLS) == set(PUBLIC)


@each_op
@pytest.mark.parametrize("library", ["numpy", "foreign"])
def test_arrays_in_arrays_out(name: str, library: str, foreign: ModuleType) -> None:
    made, kind = (Tensor.numpy, np.ndarray) if library == "numpy" else (Foreign, Foreign)
    for call in CALLS[name]:
        args, kwargs = mapped(call, Tensor, made)
        answer = getattr(ops, name)(*args, **kwargs)
        expected = getattr(ops, name)(*call[0], **call[1])
        assert isinstance(answer, tuple) == isinstance(expected, tuple)
        for got, wanted in zip(parts(answer), parts(expected), strict=True):
            assert type(got) is (Tensor if hasattr(answer, "groups") or name == "pack_int8" else kind)
            assert_same(got, wanted)


@each_op
def test_nothing_is_copied_on_the_way_in_or_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An op that answers with all of its tensors gives the memory it was given."""
    (args, kwargs), *_ = mapped(CALLS[name], Tensor, Tensor.numpy)
    bound = inspect.signature(getattr(ops, name)).bind(*args, **kwargs)
    bound.apply_defaults()
    named = dict(_arrays._named(bound.arguments))

    def echo(**arguments: Any) -> tuple[Tensor, ...]:
        return tuple(value for _, value in _arrays._named(arguments))

    echo.__code__ = echo.__code__.replace()
    answers = _arrays.call_with_tensors(WithCodeOf(getattr(ops, name), echo), bound.arguments)
    for array, answer in zip(named.values(), answers, strict=True):
        assert type(answer) is np.ndarray
        assert np.shares_memory(array, answer)
        assert (answer.shape, answer.strides) == (array.shape, array.strides)
