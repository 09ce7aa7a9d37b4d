"""Every public op takes arrays of NumPy, CuPy and other libraries, and answers with the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cvperf import ArgumentError, UnsupportedError, ops
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
        "nms": [
            ((boxes, scores, 0.5), {}),
            ((), {"boxes": boxes, "scores": scores, **HALF}),
        ],
        "batched_nms": [((boxes, scores, torch.arange(20) % 3, 0.5), {})],
        "nms_padded": [((boxes_of(9, 2), torch.rand(2, 9), 0.5, 4), {})],
        "multiclass_nms_padded": [((boxes_of(9, 2), torch.rand(2, 9, 3), 0.5, 4), {})],
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
        "conv2d_binary": [
            ((image, weight), {"scale": torch.rand(8), "bias": torch.rand(8)}),
            ((ops.pack_bits(image), ops.pack_conv2d_binary(weight)), {"activation": "relu"}),
        ],
        "pack_bits": [((image - 0.5,), {})],
        "pack_conv2d_binary": [((weight - 0.5,), {})],
        "int4_linear": [((half, nibbles, torch.rand(8, 2).half()), {"zero": bytes_of(8, 2)})],
        "pack_int4": [((bytes_of(8, 64),), {})],
        "quantize": [((image, per_channel, zeros), {"axis": 1}), ((image, 0.5), {})],
        "dequantize": [((pixels, per_channel, zeros), {"axis": 1})],
        "paste_masks": [((torch.rand(20, 5, 5), boxes, (16, 12)), {})],
        "normalize_image": [((pixels.permute(0, 2, 3, 1), [0.5] * 4, [0.2] * 4), NHWC)],
    }


NHWC, HALF = {"layout": "NHWC"}, {"iou_threshold": 0.5}
PACKED = (ops.PackedConv2d, ops.PackedInt8, ops.PackedConv2dInt8, ops.PackedConv2dBinary)
CALLS = some_calls()
PUBLIC = [name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))]
each_op = pytest.mark.parametrize("name", PUBLIC)


# --- a library as CuPy is, on the CPU ------------------------------------------------------------


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
    """The tensors or arrays of an answer; the tensor in a packed weight."""
    if isinstance(answer, PACKED):
        return [answer.weight if isinstance(answer, ops.PackedConv2d) else answer.data]
    return list(answer) if isinstance(answer, tuple) else [answer]


def assert_same(array: Any, expected: Tensor) -> None:
    """Bit for bit, with the same strides."""
    got = torch.from_dlpack(array)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.stride() == expected.stride()
    assert torch.equal(got, expected)


def test_the_calls_are_of_every_public_op() -> None:
    assert set(CALLS) == set(PUBLIC)


@each_op
@pytest.mark.parametrize(("kind", "made"), [(np.ndarray, Tensor.numpy), (Foreign, Foreign)])
def test_arrays_in_arrays_out(
    name: str, kind: type, made: Callable[[Tensor], Any], foreign: ModuleType
) -> None:
    op = getattr(ops, name)
    for call in CALLS[name]:
        args, kwargs = mapped(call, Tensor, made)
        answer, expected = op(*args, **kwargs), op(*call[0], **call[1])
        assert type(answer) is type(expected) or type(answer) is kind
        for got, wanted in zip(parts(answer), parts(expected), strict=True):
            assert type(got) is (Tensor if isinstance(answer, PACKED) else kind)
            assert_same(got, wanted)


@each_op
def test_nothing_is_copied_on_the_way_in_or_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Any, Tensor]] = []
    as_tensor, as_array = _arrays._as_tensor, _arrays._as_array

    def into(argument: str, array: Any, library: ModuleType) -> Tensor:
        pairs.append((array, as_tensor(argument, array, library)))
        return pairs[-1][1]

    def out_of(tensor: Tensor, library: ModuleType) -> Any:
        pairs.append((as_array(tensor, library), tensor))
        return pairs[-1][0]

    monkeypatch.setattr(_arrays, "_as_tensor", into)
    monkeypatch.setattr(_arrays, "_as_array", out_of)
    for args, kwargs in mapped(CALLS[name], Tensor, Tensor.numpy):
        pairs.clear()
        getattr(ops, name)(*args, **kwargs)
        assert pairs
        for array, tensor in pairs:
            assert array.ctypes.data == tensor.data_ptr()
            assert array.strides == tuple(step * array.itemsize for step in tensor.stride())


def test_weights_packed_from_arrays_serve_both() -> None:
    a, b = bytes_of(6, 32), bytes_of(32, 8)
    packed = ops.pack_int8(b.numpy())
    expected = ops.int8_gemm(a, b)
    for _ in range(2):  # the second time the packed weight remembers the call
        assert_same(ops.int8_gemm(a.numpy(), packed), expected)
        assert torch.equal(ops.int8_gemm(a, packed), expected)


# --- layouts, dtypes and places in memory ---------------------------------------------------------


def test_a_transposed_photo_is_channels_last() -> None:
    photo, weight = np.random.rand(2, 8, 8, 4).astype("f"), np.random.rand(6, 4, 1, 1).astype("f")
    answer = ops.conv2d(photo.transpose(0, 3, 1, 2), weight)
    assert answer.shape == (2, 6, 8, 8)
    assert answer.transpose(0, 2, 3, 1).flags.c_contiguous


def frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array


def at_an_odd_address(array: Any) -> Any:
    return np.frombuffer(b"x" + array.tobytes(), "u1")[1:].view("f").reshape(array.shape)


@pytest.mark.parametrize(
    "laid_out",
    [frozen, lambda x: x[..., ::-1], lambda x: x[::-1, :, ::2], lambda x: x[:0], at_an_odd_address,
     lambda x: np.broadcast_to(x[:1], x.shape)],
    ids=["read-only", "backwards", "every second row", "empty", "unaligned", "broadcast"],
)  # fmt: skip
def test_where_an_array_lies_does_not_matter(laid_out: Callable[[Any], Any]) -> None:
    image = laid_out(np.random.rand(2, 4, 8, 8).astype("f"))
    before = image.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of read-only arrays
        answer = ops.quantize(image, 0.1)
    assert torch.equal(torch.from_numpy(answer), ops.quantize(torch.from_numpy(before), 0.1))
    assert np.array_equal(image, before)


def test_only_what_torch_cannot_describe_is_copied() -> None:
    rows = np.random.rand(4, 6, 3).astype("f")
    for array, shared in ((frozen(rows), True), (rows[:, ::2], True), (rows[..., ::-1], False)):
        tensor = _arrays._as_tensor("x", array, np)
        assert np.shares_memory(tensor.numpy(), array) is shared
        assert np.array_equal(tensor.numpy(), array)
    photo = np.zeros((2, 8, 8, 3), "f")[..., ::-1].transpose(0, 3, 1, 2)  # BGR to RGB
    assert _arrays._as_tensor("x", photo, np).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_answer_has_the_dtype_of_a_tensors_answer(dtype: type) -> None:
    x = np.random.rand(3, 4).astype(dtype)
    assert ops.bias_activation(x, None, activation="relu").dtype == dtype


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = torch.rand(3, 4).bfloat16()
    array = frozen(x.float().numpy().astype(bfloat16))
    answer = ops.bias_activation(array, None, activation="silu")
    assert answer.dtype == bfloat16
    expected = ops.bias_activation(x, None, activation="silu")
    assert np.array_equal(answer.astype("f"), expected.float().numpy())


def test_bfloat16_without_ml_dtypes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UnsupportedError, match=r"bfloat16\[2, 2\].*pip install ml_dtypes"):
        ops.dequantize(np.zeros((2, 2), "i1"), 1.0, dtype=torch.bfloat16)


# --- errors ---------------------------------------------------------------------------------------

BOXES, SCORES = boxes_of(3), torch.rand(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.nms(BOXES.numpy(), SCORES, 0.5), TypeError,
         r"boxes and scores must be of one library: boxes is numpy\.ndarray float32\[3, 4\], "
         r"scores is float32\[3\] on cpu"),
        (lambda: ops.nms(BOXES, SCORES.numpy(), 0.5), TypeError,
         r"scores must be a torch\.Tensor.*got numpy\.ndarray float32\[3\].*boxes is a torch"),
        (lambda: ops.nms(BOXES.numpy(), Foreign(SCORES), 0.5), TypeError,
         r"boxes and scores must be of one library.*scores is foreign\.Foreign"),
        (lambda: ops.roi_align(np.zeros((1, 3, 8, 8)), [BOXES], 2), TypeError,
         r"input and boxes\[0\] must be of one library"),
        (lambda: ops.roi_align(torch.zeros(1, 3, 8, 8), ROIS.numpy(), 2), TypeError,
         r"boxes must be .*got numpy.*input is a torch\.Tensor"),
        (lambda: ops.int8_gemm(bytes_of(2, 4), bytes_of(4, 4).numpy()), TypeError,
         r"b must be .*got numpy.*a is a torch\.Tensor"),
        (lambda: ops.nms(BOXES.numpy().astype(object), SCORES.numpy(), 0.5), ArgumentError,
         r"boxes is numpy\.ndarray object\[3, 4\], which a tensor cannot share"),
        (lambda: ops.nms(BOXES.numpy().astype(">f4"), SCORES.numpy(), 0.5), ArgumentError,
         "boxes .*byte order"),
        (lambda: ops.nms(BOXES.numpy()[:, :3], SCORES.numpy(), 0.5), ArgumentError,
         r"boxes must be boxes\[N, 4\]"),
        (lambda: ops.multiscale_roi_align(np.zeros((1, 3, 8, 8)), ROIS.numpy(), 2, [1.0]),
         TypeError, "features must be a list"),
    ],
)  # fmt: skip
def test_a_call_that_cannot_be_names_its_arguments(
    call: Callable[[], Any], error: type[Exception], message: str, foreign: ModuleType
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_library_that_takes_no_arrays_back_is_refused() -> None:
    with pytest.raises(TypeError, match=r"boxes is test_arrays\.Foreign.*without from_dlpack"):
        ops.nms(Foreign(BOXES), Foreign(SCORES), 0.5)


def test_arrays_on_two_devices_are_refused(foreign: ModuleType) -> None:
    elsewhere = Foreign(SCORES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_arrays, "from_dlpack", lambda array: array.tensor.to(
            "meta" if array is elsewhere else "cpu"))  # fmt: skip
        with pytest.raises(ArgumentError, match=r"boxes and scores must be on the same device"):
            ops.nms(Foreign(BOXES), elsewhere, 0.5)


# --- streams, torch.compile, imports --------------------------------------------------------------


@pytest.mark.parametrize("address", [0, 48])
def test_work_goes_to_the_librarys_current_stream(
    address: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CuPy's interface and torch's, both stood in for: neither is here without a GPU."""
    streams = SimpleNamespace(get_current_stream=lambda index: SimpleNamespace(ptr=address + index))
    library: Any = SimpleNamespace(__name__="cupy", cuda=streams)
    array = SimpleNamespace(__dlpack_device__=lambda: (2, 0))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: ("default", device))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda ptr, device: (ptr, device))
    chosen: Any = _arrays._on_stream_of(library, array)
    assert chosen == (("default", 0) if address == 0 else (48, 0))


def test_arrays_in_a_compiled_function_break_the_graph() -> None:
    def keep(boxes: Any, scores: Any) -> Any:
        return ops.nms(boxes, scores, 0.5)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about what it does not trace
        kept = torch.compile(keep, backend="eager")(BOXES.numpy(), SCORES.numpy())
    assert_same(kept, keep(BOXES, SCORES))


def test_an_array_loads_no_other_array_library() -> None:
    code = (
        "import sys, numpy as np, cvperf;"
        "cvperf.ops.nms(np.zeros((2, 4), 'f'), np.zeros(2, 'f'), 0.5);"
        "print(*{'cupy', 'jax', 'ml_dtypes', 'triton'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
