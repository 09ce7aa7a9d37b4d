"""Overrides at the GPU's dispatch key, without a GPU.

torch's wheel has the originals' GPU kernels, which refuse tensors on the CPU: that shows that a
call went to them. Ours take the device of the tensors, so they are served here by the CPU backend,
at the GPU's key and by lines that say what a GPU measured of a backend called "cpu".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import nms, roi_align

import cvperf
from cvperf.backends import registry
from cvperf.backends.gpu import choice
from cvperf.backends.gpu.crossovers import Crossover
from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import A100, H100
from cvperf.backends.registry import UNMEASURED, Choice
from cvperf.dropin import crossover, gpu, overrides
from cvperf.dropin.overrides import INVALID, OVERRIDES

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no GPU kernels")

TARGETS = [override.target for ops in OVERRIDES.values() for override in ops]
ON_CUDA = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
REFUSED = r"(?i)cuda"
"""What the originals' GPU kernels say of tensors on the CPU."""

MEASURED = "measured on sm_90 at size 100, the drop-in's own time included"
GEOMETRY = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch says there is one, and it is an H100."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cvperf.explain(reset=True)
    with assuming(H100), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def line(op: str, size: float, kind: str = "", **ms: float) -> Crossover:
    no_time = dict.fromkeys(ms, 0.0)
    return Crossover("H100", 90, op, "float32", "contiguous", kind, "", size, ms, no_time)


def at_gpu_key(target: str, *args: Any) -> Any:
    """Run what the dispatcher has for tensors on a GPU."""
    return torch.library.get_kernel(target, "CUDA").call_boxed(ON_CUDA, *args)


def rows() -> list[tuple[str, str, str]]:
    return [(row.op, row.backend, row.reason) for row in cvperf.explain().rows if row.calls]


def boxes_and_scores() -> tuple[torch.Tensor, torch.Tensor]:
    corners = torch.rand(100, 2) * 50
    return torch.cat([corners, corners + 5 + torch.rand(100, 2) * 20], 1), torch.rand(100)


# --- registration ---------------------------------------------------------------------------------


def test_the_gpus_key_is_overridden_where_there_is_a_gpu_and_restored() -> None:
    before = [torch._C._dispatch_dump(target) for target in TARGETS]
    lines = [line(op, 1.0) for ops in OVERRIDES.values() for each in ops for op in each.ops]
    with choice.recording(lines), cvperf.use():
        for target in TARGETS:
            assert "cvperf/dropin" in _kernels(target)["CUDA"], target
            assert "cvperf/dropin" in _kernels(target)["CPU"], target
    assert before == [torch._C._dispatch_dump(target) for target in TARGETS]
    assert cvperf.explain().rows == ()


def test_without_a_gpu_its_key_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = _kernels("torchvision::nms")["CUDA"]
    with choice.recording([line("nms", 1.0)]), cvperf.use("nms"):
        assert _kernels("torchvision::nms")["CUDA"] == before
        assert [row.backend for row in cvperf.explain().rows] == ["not called"]


def test_what_no_gpu_has_measured_is_left_alone_there_and_explain_says_so() -> None:
    before = _kernels("torchvision::nms")["CUDA"]
    with choice.recording([line("roi_align", 1.0)]), cvperf.use("nms"):
        assert _kernels("torchvision::nms")["CUDA"] == before
        told = cvperf.explain()
    assert [(row.backend, row.calls) for row in told.rows] == [("not called", 0), ("original", 0)]
    assert "on a GPU by default order, not measured; these calls are not counted" in str(told)


def _kernels(target: str) -> dict[str, str]:
    """Dispatch key -> where its kernel was registered."""
    lines = torch._C._dispatch_dump(target).splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


# --- served ---------------------------------------------------------------------------------------


def test_nms_is_served_where_a_gpu_measured_it_faster() -> None:
    boxes, scores = boxes_and_scores()
    expected = nms(boxes, scores, 0.5)
    with choice.recording([line("nms", 100, cpu=0.01, original=0.05)]), cvperf.use("nms"):
        assert torch.equal(at_gpu_key("torchvision::nms", boxes, scores, 0.5), expected)
    assert rows() == [("torchvision::nms", "cvperf.cpu", f"{MEASURED}: original 50 us, cpu 40 us")]


def test_roi_align_and_its_gradient_are_served() -> None:
    image = torch.randn(1, 4, 16, 16, requires_grad=True)
    boxes = torch.tensor([[0.0, 2, 3, 12, 15], [0.0, 0, 0, 15, 15]])
    expected = roi_align(image, boxes, (7, 7), 0.5, 2, True)
    expected.sum().backward()
    size = float(expected.numel())
    lines = [line(op, size, cpu=1, original=2) for op in ("roi_align", "roi_align_backward")]
    call = (boxes, 0.5, 7, 7)
    with choice.recording(lines), cvperf.use("roi_align"):
        output = at_gpu_key("torchvision::roi_align", image.detach(), *call, 2, True)
        grad = torch.ones_like(output)
        sizes = image.shape
        found = at_gpu_key("torchvision::_roi_align_backward", grad, *call, *sizes, 2, True)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(found, image.grad)
    assert {backend for _, backend, _ in rows()} == {"cvperf.cpu"}
    assert len(rows()) == 2


def test_convolution_and_its_gradients_are_served() -> None:
    image, weight = torch.randn(1, 8, 10, 10), torch.randn(4, 8, 3, 3)
    flop = 2.0 * 4 * 10 * 10 * 8 * 9
    ops = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    grad = torch.randn(1, 4, 10, 10)
    lines = [line(op, flop, "dense", cpu=1, original=2) for op in ops]
    wanted = (grad, image, weight, [4], *GEOMETRY, [True, True, True])
    with choice.recording(lines), cvperf.use("conv2d"):
        output = at_gpu_key("aten::convolution", image, weight, None, *GEOMETRY)
        found = at_gpu_key("aten::convolution_backward", *wanted)
    expected = torch.ops.aten.convolution_backward(*wanted)
    torch.testing.assert_close(output, torch.conv2d(image, weight, padding=1), rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert {(op, backend) for op, backend, _ in rows()} == {
        ("aten::convolution", "cvperf.cpu"),
        ("aten::convolution_backward", "cvperf.cpu"),
    }


# --- left with the original -----------------------------------------------------------------------


def test_far_from_every_measured_size_the_original_runs_and_explain_says_so() -> None:
    boxes, scores = boxes_and_scores()
    with (
        choice.recording([line("nms", 10_000, cpu=0.01, original=0.05)]),
        cvperf.use("nms"),
        pytest.raises(RuntimeError, match=REFUSED),
    ):
        at_gpu_key("torchvision::nms", boxes, scores, 0.5)
    assert rows() == [("torchvision::nms", "original", "by default order, not measured")]


def test_what_a_gpu_measured_slower_stays_with_the_original() -> None:
    boxes, scores = boxes_and_scores()
    with (
        choice.recording([line("nms", 100, cpu=0.05, original=0.01)]),
        cvperf.use("nms"),
        pytest.raises(RuntimeError, match=REFUSED),
    ):
        at_gpu_key("torchvision::nms", boxes, scores, 0.5)
    assert rows() == [("torchvision::nms", "original", f"{MEASURED}: original 10 us, cpu 50 us")]


def test_the_drop_ins_own_time_counts_against_ours() -> None:
    args = (*boxes_and_scores(), 0.5)
    close = line("nms", 100, cpu=0.01, original=0.038)
    with choice.recording([close]):
        assert registry.explain_choice("nms", *args).backend == "cpu"
        chosen = gpu.choose((("nms", args),))
    assert chosen == Choice("original", f"{MEASURED}: original 38 us, cpu 40 us")


def test_another_architectures_measurement_does_not_count() -> None:
    args = (*boxes_and_scores(), 0.5)
    lines = [line("nms", 100, cpu=0.01, original=0.05)]
    with choice.recording(lines):
        assert gpu.choose((("nms", args),)).backend == "cpu"
        with assuming(A100):
            assert gpu.choose((("nms", args),)) == Choice("original", UNMEASURED)


def test_a_call_that_no_backend_serves_says_who_was_asked() -> None:
    boxes = torch.empty(5, 4, device="meta")
    chosen = gpu.choose((("nms", (boxes, boxes[:, 0], 0.5)),))
    assert chosen.backend == "original"
    assert "no backend serves nms on meta" in chosen.reason


def test_gradients_are_served_only_if_ours_wins_each_that_is_wanted() -> None:
    (backward,) = [o for o in OVERRIDES["conv2d"] if o.target.endswith("_backward")]
    image, weight, grad = (
        torch.empty(1, 8, 10, 10),
        torch.empty(4, 8, 3, 3),
        torch.empty(1, 4, 10, 10),
    )
    call = (grad, image, weight, [4], *GEOMETRY)
    flop = 2.0 * 4 * 10 * 10 * 8 * 9
    with choice.recording([line("conv2d_weight_grad", flop, "dense", cpu=1, original=2)]):
        assert gpu.choose(backward.calls(*call, [False, True, True])).backend == "cpu"
        assert gpu.choose(backward.calls(*call, [True, True, True])).reason == UNMEASURED
        nothing = gpu.choose(backward.calls(*call, [False, False, True]))
    assert nothing.backend == "original"
    assert "nothing that a kernel of ours computes" in nothing.reason


def test_a_convolution_that_may_use_tf32_is_not_measured() -> None:
    args = (torch.empty(1, 8, 10, 10), torch.empty(4, 8, 3, 3), None, [1, 1], [1, 1], [1, 1], 1)
    with choice.recording([line("conv2d", 57600, "dense", cpu=1, original=2)]):
        assert gpu.choose((("conv2d", args),)).backend == "cpu"
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            assert gpu.choose((("conv2d", args),)) == Choice("original", UNMEASURED)


def test_what_the_original_rejects_goes_to_it() -> None:
    lines = [line("nms", 4, cpu=0.01, original=0.05)]
    with (
        choice.recording(lines),
        cvperf.use("nms"),
        pytest.raises(RuntimeError, match=REFUSED),
    ):
        at_gpu_key("torchvision::nms", torch.rand(3, 5), torch.rand(3), 0.5)
    assert rows() == [("torchvision::nms", "original", INVALID)]


def test_ignoring_the_crossovers_serves_what_the_registry_picks() -> None:
    boxes, scores = boxes_and_scores()
    with choice.recording(()), crossover.ignored(), cvperf.use("nms"):
        at_gpu_key("torchvision::nms", boxes, scores, 0.5)
        with registry.prefer("reference"):
            at_gpu_key("torchvision::nms", boxes, scores, 0.5)
    assert {backend for _, backend, _ in rows()} == {"cvperf.cpu", "cvperf.reference"}


def test_a_rule_asked_about_tensors_on_a_gpu_answers_by_the_crossovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(overrides, "is_lazy_copy", lambda tensor: False)  # not of fakes
    (override,) = OVERRIDES["nms"]
    registry._forget()
    try:
        with FakeTensorMode():  # tensors on a GPU, without data
            call = (torch.empty(100, 4, device="cuda"), torch.empty(100, device="cuda"), 0.5)
            with choice.recording(()):
                assert override.refuse(*call) == UNMEASURED
            with choice.recording([line("nms", 100, cuda=0.01, triton=0.01, original=0.05)]):
                assert override.refuse(*call) is None
            double = (call[0].double(), call[1].double(), 0.5)
            assert "no backend serves nms on cuda with float64" in override.refuse(*double)
    finally:
        registry._forget()
