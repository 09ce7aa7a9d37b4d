"""One small net that uses every op: eager, compiled without a graph break, and exported."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cvperf import ops


class SmallDetector(nn.Module):
    """A feature map, boxes kept by NMS, their crops by both poolings, and INT8 scores of them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) / 5)
        self.bias = nn.Parameter(torch.randn(8))
        self.register_buffer("classifier", torch.randint(-128, 128, (8 * 3 * 3, 5)).to(torch.int8))

    def forward(self, image: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        features = ops.conv2d(image, self.weight, self.bias, stride=2, padding=1, activation="relu")
        kept = boxes[ops.batched_nms(boxes, scores, labels, 0.5)]
        best = kept[ops.nms(kept, kept[:, 2], 0.9)]
        rois = torch.cat([best.new_zeros(best.shape[0], 1), best], 1)
        crops = ops.roi_align(features, rois, (3, 3), 0.5, 2, True)
        crops = crops + ops.roi_pool(features, rois, (3, 3), 0.5)
        levels = crops.flatten(1).mul(20).clamp(0, 127).to(torch.int8)
        return ops.int8_gemm(levels, self.classifier, scale_a=0.05, out_dtype=torch.float32)


def example(count: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    corners = torch.rand(count, 2) * 20
    boxes = torch.cat([corners, corners + 2 + torch.rand(count, 2) * 8], 1)
    return torch.randn(1, 3, 32, 32), boxes, torch.rand(count), torch.randint(3, (count,))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_it_compiles_as_one_graph(backend: str) -> None:
    net, inputs = SmallDetector().eval(), example()
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), net(*inputs))


def test_it_exports_with_a_dynamic_number_of_boxes() -> None:
    net, inputs = SmallDetector().eval(), example()
    count = torch.export.Dim("count", min=2)
    shapes = {"image": None, "boxes": {0: count}, "scores": {0: count}, "labels": {0: count}}
    program = torch.export.export(net, inputs, dynamic_shapes=shapes)
    more = example(77)
    torch.testing.assert_close(program.module()(*more), net(*more))
