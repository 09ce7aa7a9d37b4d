"""Large outputs lie in memory that earlier ones have left, and nothing of those shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cvperf import _C, ops
from cvperf.backends.cpu.memory import RECYCLED_FROM, empty, limit_asked_for

LARGE = (3, 40, 300, 100)
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


@pytest.fixture(autouse=True)
def default_limit() -> Iterator[None]:
    yield
    _C.keep_free(128 << 20)


@pytest.mark.parametrize("format", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_is_a_tensor_as_torch_makes_them(
    dtype: torch.dtype, format: torch.memory_format
) -> None:
    shape = (4, 60, 200, 100)
    made = empty(shape, dtype, format)
    expected = torch.empty(shape, dtype=dtype, memory_format=format)
    assert (made.shape, made.stride(), made.dtype) == (shape, expected.stride(), dtype)
    assert made.untyped_storage().nbytes() == expected.untyped_storage().nbytes()
    assert made.fill_(1).sum(dtype=torch.float64) == made.numel(), "all of it is there"
    assert not made._is_view()


def test_memory_comes_back_once_its_tensor_and_views_are_gone() -> None:
    first = empty(LARGE, torch.float32, CONTIGUOUS)
    view, address = first[1], first.data_ptr()
    del first
    other = empty(LARGE, torch.float32, CONTIGUOUS)
    assert other.data_ptr() != address, "the view still uses it"
    del view
    assert empty(LARGE, torch.float32, CHANNELS_LAST).data_ptr() == address


def test_no_more_than_the_limit_is_kept_and_the_latest_of_it() -> None:
    _C.keep_free(16 << 20)  # room for one of these
    blocks: list[torch.Tensor | None] = [empty(LARGE, torch.float32, CONTIGUOUS) for _ in range(3)]
    addresses = [block.data_ptr() for block in blocks if block is not None]
    for i in range(3):
        blocks[i] = None
    assert empty(LARGE, torch.float32, CONTIGUOUS).data_ptr() == addresses[-1]


def test_small_blocks_are_left_to_torch() -> None:
    made = empty((RECYCLED_FROM // 4 - 1,), torch.float32, CONTIGUOUS)
    assert made.untyped_storage().resizable(), "torch's own memory"


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST], ids=["nchw", "channels_last"])
def test_every_element_of_recycled_memory_is_written(layout: torch.memory_format) -> None:
    features = torch.rand(1, 128, 150, 150).contiguous(memory_format=layout).requires_grad_()
    boxes = torch.rand(400, 5) * 60
    boxes[:, 0], boxes[:, 3:] = 0, boxes[:, 3:] + 60
    for shape in ((400, 128, 7, 7), tuple(features.shape)):
        dirt = empty(shape, torch.float32, layout).fill_(float("nan"))
        address = dirt.data_ptr()
        del dirt
        if shape[0] == 400:
            output = ops.roi_align(features, boxes, 7, 1.0, 2)
            assert output.data_ptr() == address, "the memory is used again"
            assert output.isfinite().all()
        else:
            output.sum().backward()
            assert features.grad.isfinite().all()


def test_a_wrong_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPERF_CPU_CACHE_MB", "64")
    assert limit_asked_for() == 64 << 20
    for wrong in ("much", "-1", "1.5", ""):
        monkeypatch.setenv("CVPERF_CPU_CACHE_MB", wrong)
        with pytest.raises(ValueError, match="CVPERF_CPU_CACHE_MB must be megabytes"):
            limit_asked_for()
