"""Overrides: what they serve, what they leave alone, and that they go away without a trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import nms, roi_align

import cvperf
from cvperf import _C
from cvperf.dropin import crossover
from cvperf.dropin.overrides import OVERRIDES

ISAS = _C.available_isas()


@pytest.fixture(autouse=True)
def fresh_counts() -> None:
    cvperf.explain(reset=True)


def calls(op: str, backend: str = "cvperf.cpu") -> int:
    return sum(row.calls for row in cvperf.explain().rows if (row.op, row.backend) == (op, backend))


def random_boxes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    corners = torch.rand(count, 2) * 100
    return torch.cat([corners, corners + 1 + torch.rand(count, 2) * 40], 1), torch.rand(count)


@torch.jit.script
def scripted_nms(boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.ops.torchvision.nms(boxes, scores, 0.5)


def test_a_function_imported_before_the_override_is_served() -> None:
    boxes, scores = random_boxes(300)
    expected = nms(boxes, scores, 0.5)
    with cvperf.use("nms"):
        assert torch.equal(nms(boxes, scores, 0.5), expected)
    assert calls("torchvision::nms") == 1


def test_a_scripted_function_is_served() -> None:
    boxes, scores = random_boxes(300)
    expected = scripted_nms(boxes, scores)
    with cvperf.use("nms"):
        assert torch.equal(scripted_nms(boxes, scores), expected)
    assert calls("torchvision::nms") == 1


def test_a_traced_convolution_is_served() -> None:
    layer = torch.nn.Conv2d(16, 32, 3)
    image = torch.randn(1, 16, 20, 20)
    traced = torch.jit.trace(layer, image, check_trace=False)
    expected = layer(image)
    cvperf.explain(reset=True)
    with cvperf.use("conv2d"), crossover.ignored(), torch.no_grad():
        torch.testing.assert_close(traced(image), expected, rtol=1e-4, atol=1e-5)
    assert calls("aten::_convolution") == 1, cvperf.explain()


def test_an_exported_program_is_served() -> None:
    class Keep(torch.nn.Module):
        def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return torch.ops.torchvision.nms(boxes, scores, 0.5)

    boxes, scores = random_boxes(50)
    program = torch.export.export(Keep(), (boxes, scores)).module()
    expected = nms(boxes, scores, 0.5)
    with cvperf.use("nms"):
        assert torch.equal(program(boxes, scores), expected)
    assert calls("torchvision::nms") == 1


def test_gradients_through_roi_align_are_served_and_right() -> None:
    image = torch.randn(2, 8, 30, 30, requires_grad=True)
    boxes = torch.tensor([[0.0, 2, 3, 20, 25], [1.0, 0, 0, 29, 29]])
    roi_align(image, boxes, (7, 7), 0.5, 2, True).square().sum().backward()
    assert image.grad is not None
    expected, image.grad = image.grad, None
    with cvperf.use("roi_align"):
        roi_align(image, boxes, (7, 7), 0.5, 2, True).square().sum().backward()
    torch.testing.assert_close(image.grad, expected, rtol=1e-4, atol=1e-5)
    assert calls("torchvision::roi_align") == 1
    assert calls("torchvision::_roi_align_backward") == 1


def test_leaving_the_block_restores_the_original_bit_for_bit() -> None:
    image, weight = torch.randn(1, 8, 40, 40), torch.randn(16, 8, 3, 3)
    boxes = torch.tensor([[0.0, 2, 3, 20, 25]])
    before = torch.conv2d(image, weight), roi_align(image, boxes, 7)
    kernels = [
        torch._C._dispatch_dump(override.target) for ops in OVERRIDES.values() for override in ops
    ]
    with cvperf.use():
        torch.conv2d(image, weight), roi_align(image, boxes, 7)
    after = torch.conv2d(image, weight), roi_align(image, boxes, 7)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert kernels == [
        torch._C._dispatch_dump(override.target) for ops in OVERRIDES.values() for override in ops
    ]


def test_an_exception_inside_the_block_restores_too() -> None:
    boxes, scores = random_boxes(10)
    with pytest.raises(KeyError), cvperf.use("nms"):
        raise KeyError
    nms(boxes, scores, 0.5)
    assert calls("torchvision::nms") == 0


def test_blocks_nest_and_enable_outlives_them() -> None:
    boxes, scores = random_boxes(10)
    cvperf.enable("nms")
    try:
        with cvperf.use("nms"), cvperf.use("nms", "roi_align"):
            nms(boxes, scores, 0.5)
        nms(boxes, scores, 0.5)
        assert calls("torchvision::nms") == 2
    finally:
        cvperf.disable()
    nms(boxes, scores, 0.5)
    assert calls("torchvision::nms") == 2


def test_enabling_twice_needs_one_disable() -> None:
    boxes, scores = random_boxes(10)
    cvperf.enable("nms")
    cvperf.enable("nms")
    cvperf.disable("nms")
    nms(boxes, scores, 0.5)
    assert calls("torchvision::nms") == 0


def test_an_unknown_name_is_refused_and_named() -> None:
    with pytest.raises(cvperf.ArgumentError, match=r"'nsm'.*'nms'"), cvperf.use("nsm"):
        pass


def test_a_transposed_convolution_runs_on_the_original_and_explain_says_so() -> None:
    with cvperf.use("conv2d"):
        torch.nn.functional.conv_transpose2d(torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3))
    reasons = {row.reason for row in cvperf.explain().rows if row.backend == "original"}
    assert reasons == {"transposed convolution"}, cvperf.explain()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: nms(torch.rand(3, 5), torch.rand(3), 0.5), "boxes"),
        (lambda: torch.conv2d(torch.rand(1, 3, 8, 8), torch.rand(4, 2, 3, 3)), "channels"),
        (lambda: torch.conv2d(torch.rand(1, 3, 2, 2), torch.rand(4, 3, 3, 3)), "size"),
    ],
)
def test_what_the_original_rejects_gives_the_originals_error(
    call: Callable[[], object], match: str
) -> None:
    with pytest.raises(RuntimeError, match=match) as plain:
        call()
    with cvperf.use(), pytest.raises(RuntimeError, match=match) as overridden:
        call()
    assert str(plain.value) == str(overridden.value)


def test_a_convolution_that_torch_runs_faster_stays_with_torch_and_explain_says_why() -> None:
    depthwise = torch.nn.Conv2d(64, 64, 3, groups=64)
    with cvperf.use("conv2d"), torch.no_grad():
        depthwise(torch.randn(1, 64, 14, 14))
    (row,) = [row for row in cvperf.explain().rows if row.calls]
    assert row.backend == "original", row
    assert "crossover" in row.reason, row


@pytest.mark.parametrize("recorded", [isa for isa in crossover.RECORDED if isa in ISAS])
def test_convolutions_on_the_winning_side_of_the_crossover_are_served(recorded: str) -> None:
    before = _C.isa()
    _C.select_isa(recorded)
    try:
        with cvperf.use("conv2d"), torch.no_grad():
            torch.conv2d(torch.randn(1, 128, 28, 28), torch.randn(128, 128, 3, 3))
            torch.conv2d(torch.randn(1, 8, 9, 9).half(), torch.randn(4, 8, 3, 3).half())
    finally:
        _C.select_isa(before)
    assert calls("aten::convolution") == 2, cvperf.explain()


def test_explain_lists_an_overridden_op_that_was_not_called() -> None:
    with cvperf.use("nms"):
        assert [(row.op, row.calls) for row in cvperf.explain().rows] == [("torchvision::nms", 0)]
        assert "waiting" in str(cvperf.explain())
    assert "cvperf.use" in str(cvperf.explain())


def test_mask_rcnn_gives_the_same_detections_and_gradients() -> None:
    # With random weights the choice of boxes hangs on rounding; in float64 none is left to differ.
    torch.manual_seed(3)
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=128, max_size=128, num_classes=4
    ).double()
    images = [torch.rand(3, 128, 128).double()]
    target = {
        "boxes": torch.tensor([[10.0, 10, 90, 100]]).double(),
        "labels": torch.tensor([1]),
        "masks": torch.zeros(1, 128, 128, dtype=torch.uint8),
    }
    target["masks"][:, 20:80, 20:80] = 1

    def step() -> tuple[dict[str, float], list[torch.Tensor]]:
        torch.manual_seed(0)
        model.zero_grad()
        losses = model(images, [target])
        sum(losses.values()).backward()
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return {name: float(loss.detach()) for name, loss in losses.items()}, grads

    model.train()
    losses, grads = step()
    with cvperf.use(), crossover.ignored():
        ours, our_grads = step()
    again, again_grads = step()
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(grads, again_grads, strict=True))
    assert ours == pytest.approx(losses, rel=1e-6)
    for a, b in zip(our_grads, grads, strict=True):
        assert torch.linalg.vector_norm(a - b) <= 1e-5 * torch.linalg.vector_norm(b) + 1e-9
    assert calls("torchvision::nms") > 0
    assert calls("torchvision::roi_align") > 0
    assert calls("torchvision::_roi_align_backward") > 0
    assert calls("aten::convolution") > 0
    assert calls("aten::convolution_backward") > 0

    model.eval()
    with torch.no_grad():
        (expected,) = model(images)
        with cvperf.use(), crossover.ignored():
            (found,) = model(images)
    assert torch.equal(found["labels"], expected["labels"])
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-6, atol=1e-6)


def test_the_whole_process_is_served_from_other_threads() -> None:
    import threading

    boxes, scores = random_boxes(50)
    with cvperf.use("nms"):
        workers = [threading.Thread(target=nms, args=(boxes, scores, 0.5)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert calls("torchvision::nms") == 4


def test_explain_shares_out_the_products_of_convolutions() -> None:
    """Also where the original runs: transposed, and of the gradients those that are wanted."""
    layer = torch.nn.Conv2d(4, 6, (3, 5), stride=2, padding=1)
    turned = torch.nn.ConvTranspose2d(6, 4, 3)
    image = torch.randn(2, 4, 9, 11)
    with FlopCounterMode(display=False) as counter:
        turned(layer(image)).sum().backward()
    cvperf.explain(reset=True)
    with cvperf.use("conv2d"):
        turned(layer(image)).sum().backward()
        told = cvperf.explain()
    assert sum(row.flop for row in told.rows) == counter.get_total_flops()
    originals = sum(row.flop for row in told.rows if row.backend == "original")
    assert told.covered == 1 - originals / counter.get_total_flops()
    assert "%" in str(told)


@pytest.mark.skipif("avx2" not in ISAS, reason="the rules of AVX2 are what is tested")
def test_each_gradient_of_a_layer_goes_where_it_is_faster() -> None:
    """With AVX2 the weight gradient of a strided layer is ours, the image's is torch's."""
    before = _C.isa()
    _C.select_isa("avx2")
    layer = torch.nn.Conv2d(8, 12, 3, stride=2, padding=1).to(memory_format=torch.channels_last)
    image = torch.randn(2, 8, 12, 12).to(memory_format=torch.channels_last).requires_grad_()
    wanted = (image, layer.weight, layer.bias)
    expected = torch.autograd.grad(layer(image).square().sum(), wanted)
    cvperf.explain(reset=True)
    with cvperf.use("conv2d"):
        found = torch.autograd.grad(layer(image).square().sum(), wanted)
    _C.select_isa(before)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    rows = {row.backend: row for row in cvperf.explain().rows if "backward" in row.op}
    assert "input gradient" in rows["original"].reason
    assert rows["cvperf.cpu"].flop == rows["original"].flop > 0


def test_a_weight_of_another_rank_gets_the_original_error() -> None:
    image, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3)
    call = torch.ops.aten.convolution
    arguments = (image, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    with pytest.raises(RuntimeError) as expected:
        call(*arguments)
    with cvperf.use("conv2d"), pytest.raises(RuntimeError) as found:
        call(*arguments)
    assert str(found.value) == str(expected.value)
