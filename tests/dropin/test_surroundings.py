"""What users do around the overridden ops: the answers, layouts and refusals of the originals."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.overrides import TorchFunctionMode
from torchvision.ops import nms

import cvperf
from cvperf.dropin import crossover

CHANNELS_LAST = torch.channels_last
FORMATS = (torch.contiguous_format, CHANNELS_LAST)


@pytest.fixture(autouse=True)
def all_served() -> Iterator[None]:
    cvperf.explain(reset=True)
    with crossover.ignored():
        yield


def calls(op: str, backend: str = "cvperf.cpu") -> int:
    return sum(row.calls for row in cvperf.explain().rows if (row.op, row.backend) == (op, backend))


@torch.jit.script
def scripted(image: torch.Tensor, weight: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    features = torch.conv2d(image, weight)
    return torch.ops.torchvision.roi_align(features, boxes, 1.0, 3, 2, 2, False)


def test_a_trace_made_while_overridden_holds_the_convolution() -> None:
    layer = torch.nn.Conv2d(4, 6, 3)
    with cvperf.use("conv2d"):
        traced = torch.jit.trace(layer, torch.randn(1, 4, 9, 9))
    assert [node.kind() for node in traced.inlined_graph.nodes()].count("aten::_convolution") == 1
    image = torch.randn(3, 4, 12, 11)
    torch.testing.assert_close(traced(image), layer(image))


def test_the_callers_torch_function_modes_do_not_reach_the_kernels() -> None:
    class Watch(TorchFunctionMode):
        """Stands for a default device, which would make the kernels' outputs elsewhere."""

        def __torch_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    seen: list[str] = []
    image, weight = torch.randn(1, 4, 9, 9), torch.randn(6, 4, 3, 3)
    boxes = torch.tensor([[0.0, 1, 1, 5, 6]])
    with Watch():
        scripted(image, weight, boxes)
        plain, seen = seen, []
        with cvperf.use():
            scripted(image, weight, boxes)
    assert seen == plain
    assert calls("aten::convolution") == calls("torchvision::roi_align") == 1


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [3, 0])
def test_pooled_boxes_have_the_originals_layout(format: torch.memory_format, count: int) -> None:
    # Compiled code was told of that layout by the original's fake kernel, and stops at any other.
    image = torch.randn(2, 4, 12, 13).contiguous(memory_format=format)
    boxes = torch.tensor([[0.0, 1, 1, 9, 9], [1, 3, 2, 7, 6], [1, 0, 2, 12, 11]])[:count]
    grad = torch.randn(count, 4, 3, 2).contiguous(memory_format=format)

    def run() -> list[torch.Tensor]:
        ops = torch.ops.torchvision
        pooled, argmax = ops.roi_pool(image, boxes, 1.0, 3, 2)
        sizes = (2, 4, 12, 13)
        return [
            ops.roi_align(image, boxes, 1.0, 3, 2, 2, True),
            pooled,
            argmax,
            ops._roi_align_backward(grad, boxes, 1.0, 3, 2, *sizes, 2, True),
            ops._roi_pool_backward(grad, boxes, argmax, 1.0, 3, 2, *sizes),
        ]

    expected = run()
    with cvperf.use():
        found = run()
    for ours, original in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, original, rtol=1e-4, atol=1e-5, check_stride=True)
    assert calls("torchvision::_roi_pool_backward") == 1, cvperf.explain()


@pytest.mark.parametrize("count", [2, 0])
@pytest.mark.parametrize("filters", [6, 1])  # with one, its gradient has any layout
@pytest.mark.parametrize("grad_format", FORMATS)
@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("image_format", FORMATS)
def test_gradients_of_a_convolution_have_the_originals_layout(
    image_format: torch.memory_format,
    weight_format: torch.memory_format,
    grad_format: torch.memory_format,
    filters: int,
    count: int,
) -> None:
    image = torch.randn(count, 4, 9, 8).contiguous(memory_format=image_format)
    weight = torch.randn(filters, 4, 3, 3).contiguous(memory_format=weight_format)
    grad = torch.randn(count, filters, 9, 8).contiguous(memory_format=grad_format)
    arguments = (grad, image, weight, [filters], [1, 1], [1, 1], [1, 1], False, [0], 1, [True] * 3)
    expected = torch.ops.aten.convolution_backward(*arguments)
    with cvperf.use("conv2d"):
        found = torch.ops.aten.convolution_backward(*arguments)
    for ours, original in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, original, rtol=1e-4, atol=1e-3, check_stride=True)
    assert calls("aten::convolution_backward") == (count > 0), cvperf.explain()


def test_torch_compile_leaves_the_kernels_alone() -> None:
    def keep(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return boxes[nms(boxes, scores, 0.5)] + 1  # its graph breaks at NMS

    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 3]]), torch.rand(2)
    compiled = []
    for block in (contextlib.nullcontext(), cvperf.use("nms")):
        torch._dynamo.reset()
        counters.clear()
        with block:
            torch.compile(keep, backend="eager")(boxes, scores)
        compiled.append(counters["frames"]["total"])
    assert compiled[0] == compiled[1]
    assert calls("torchvision::nms") == 1


def convolution(**changes: Any) -> torch.Tensor:
    arguments = {
        "input": torch.ones(1, 3, 8, 8),
        "weight": torch.ones(4, 3, 3, 3),
        "bias": None,
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "transposed": False,
        "output_padding": [0, 0],
        "groups": 1,
    }
    return torch.ops.aten.convolution(**{**arguments, **changes})


def convolution_gradient(grad: torch.Tensor) -> Any:
    image, weight = torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3)
    geometry = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    return torch.ops.aten.convolution_backward(grad, image, weight, [4], *geometry, [True] * 3)


def align(height: int, width: int) -> torch.Tensor:
    image, boxes = torch.ones(1, 3, 8, 8), torch.tensor([[0.0, 1, 1, 5, 5]])
    return torch.ops.torchvision.roi_align(image, boxes, 1.0, height, width, 2, True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: convolution(output_padding=[-1, 0]),
        lambda: convolution(output_padding=[0, 0, 0]),
        lambda: convolution_gradient(torch.ones(4, 6, 6)),
        lambda: align(-1, 2),
    ],
)
def test_what_the_original_refuses_is_refused_in_its_words(call: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError) as plain:
        call()
    with cvperf.use(), pytest.raises(RuntimeError) as overridden:
        call()
    assert str(plain.value) == str(overridden.value)


def test_no_bins_give_an_empty_answer_as_the_original_does() -> None:
    with cvperf.use():
        assert align(0, 2).shape == (1, 3, 0, 2)


def test_a_lazy_copy_stays_lazy() -> None:
    image = torch._lazy_clone(torch.randn(1, 3, 8, 8))
    with cvperf.use():
        convolution(input=image)
        torch.ops.torchvision.roi_align(image, torch.zeros(1, 5), 1.0, 2, 2, 2, True)
    assert torch._C._is_cow_tensor(image)


def test_a_block_can_be_entered_again_and_twice_at_once() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 2, 2]]), torch.ones(1)
    block = cvperf.use("nms")
    for _ in range(2):
        with block:
            with block:
                nms(boxes, scores, 0.5)
            nms(boxes, scores, 0.5)
    nms(boxes, scores, 0.5)
    assert calls("torchvision::nms") == 4


def test_blocks_open_and_close_while_other_threads_call() -> None:
    image, weight = torch.randn(1, 4, 9, 9), torch.randn(6, 4, 3, 3)
    expected = torch.conv2d(image, weight)
    errors: list[Exception] = []
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                torch.testing.assert_close(torch.conv2d(image, weight), expected)
        except (AssertionError, RuntimeError) as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # more chances to be interrupted on the way to a kernel
    try:
        for worker in workers:
            worker.start()
        for _ in range(300):
            with cvperf.use("conv2d"):
                pass
    finally:
        done.set()
        for worker in workers:
            worker.join()
        sys.setswitchinterval(interval)
    assert not errors, errors


class Pooled(torch.utils.data.Dataset[torch.Tensor]):
    """Made in the workers by the overridden ops."""

    image = torch.randn(1, 4, 20, 20)
    weight = torch.randn(6, 4, 3, 3)
    boxes = torch.tensor([[0.0, 1, 1, 5, 6], [0, 3, 2, 17, 16]])

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return scripted(self.image + index, self.weight, self.boxes)


def test_workers_forked_after_use_are_served() -> None:
    data = Pooled()
    with cvperf.use():
        expected = [data[index] for index in range(len(data))]
        loader = torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
        )
        found = list(loader)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
