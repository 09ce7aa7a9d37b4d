"""RoI Align, the gradient of its features, and RoI Align over a feature pyramid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cvperf.bench.problems.base import Problem, Shape, generator


@dataclass(frozen=True, kw_only=True)
class RoiAlignShape(Shape):
    """``roi_align(features[n, c, h, w], boxes[k, 5], output_size, ...)`` -> [k, c, ph, pw]."""

    op: ClassVar[str] = "roi_align"

    n: int
    c: int
    h: int
    w: int
    boxes: int
    output_size: tuple[int, int]
    spatial_scale: float
    sampling_ratio: int = 2
    aligned: bool = False
    box_side: tuple[float, float] = (32.0, 512.0)
    """Least and greatest side of a box in pixels of the image (log-uniform)."""

    @property
    def samples(self) -> int:
        """Bilinear samples a channel: sampling_ratio squared a bin."""
        return self.boxes * self.output_size[0] * self.output_size[1] * self.sampling_ratio**2

    @property
    def flop(self) -> int:
        return 8 * self.samples * self.c  # four multiply-adds a sample

    @property
    def bytes(self) -> int:
        bins = self.boxes * self.output_size[0] * self.output_size[1] * self.c
        # A map larger than what the samples touch is not read whole.
        touched = min(self.n * self.c * self.h * self.w, 4 * self.samples * self.c)
        return (touched + bins + 5 * self.boxes) * self.torch_dtype.itemsize

    @property
    def size(self) -> float:
        return float(self.boxes * self.output_size[0] * self.output_size[1] * self.c)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "input": (self.n, self.c, self.h, self.w),
            "boxes": (self.boxes, 5),
            "output_size": self.output_size,
            "spatial_scale": self.spatial_scale,
            "sampling_ratio": self.sampling_ratio,
            "aligned": self.aligned,
        }

    def problem(self, seed: int = 0, device: str = "cpu") -> Problem:
        return RoiAlign(self, seed, device)


class RoiAlign(Problem):
    """Features and boxes [K, 5] (batch index, x1, y1, x2, y2 in pixels of the image)."""

    shape: RoiAlignShape

    def __init__(self, shape: RoiAlignShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)
        features = torch.randn(
            (shape.n, shape.c, shape.h, shape.w), generator=random, device=device
        )
        self.features = features.to(shape.torch_dtype, memory_format=shape.memory_format)
        self.boxes = _boxes(shape, random, device).to(shape.torch_dtype)
        self.output_size, self.spatial_scale = shape.output_size, shape.spatial_scale
        self.sampling_ratio, self.aligned = shape.sampling_ratio, shape.aligned

    @property
    def arguments(self) -> tuple[float, int, int, int, bool]:
        """(spatial_scale, pooled height, pooled width, sampling_ratio, aligned)."""
        return (self.spatial_scale, *self.output_size, self.sampling_ratio, self.aligned)

    @property
    def tolerance(self) -> float:
        # Sampling positions in float32: the last bit at 1,024 pixels moves a weight by 2^-14.
        return max(super().tolerance, 1e-4)

    def reference(self) -> Tensor:
        from torchvision.ops import roi_align

        return roi_align(
            self.features.double(),
            self.boxes.double(),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )


def _boxes(shape: RoiAlignShape, random: torch.Generator, device: str) -> Tensor:
    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=random, device=device)

    image = torch.tensor([shape.w, shape.h], device=device) / shape.spatial_scale
    low, high = shape.box_side
    sides = (low * (high / low) ** uniform(shape.boxes, 2)).minimum(image)
    corner = uniform(shape.boxes, 2) * (image - sides)
    batch = torch.randint(shape.n, (shape.boxes, 1), generator=random, device=device)
    return torch.cat([batch, corner, corner + sides], 1)


@dataclass(frozen=True, kw_only=True)
class RoiAlignBackwardShape(RoiAlignShape):
    """The gradient of the features: grad[k, c, bins] scattered back to [n, c, h, w]."""

    op: ClassVar[str] = "roi_align_backward"

    @property
    def bytes(self) -> int:
        pixels = self.n * self.c * self.h * self.w  # every gradient is written, touched or not
        bins = self.boxes * self.output_size[0] * self.output_size[1] * self.c
        return (pixels + bins + 5 * self.boxes) * self.torch_dtype.itemsize

    def problem(self, seed: int = 0, device: str = "cpu") -> RoiAlignBackward:
        return RoiAlignBackward(self, seed, device)


class RoiAlignBackward(RoiAlign):
    """The forward's inputs and ``grad`` [K, C, PH, PW], in the layout of the features."""

    def __init__(self, shape: RoiAlignShape, seed: int, device: str) -> None:
        super().__init__(shape, seed, device)
        size = (shape.boxes, shape.c, *shape.output_size)
        grad = torch.randn(size, generator=generator(seed + 1, device), device=device)
        self.grad = grad.to(shape.torch_dtype, memory_format=shape.memory_format)

    def reference(self) -> Tensor:
        import torchvision  # noqa: F401  (registers the op)

        return torch.ops.torchvision._roi_align_backward(
            self.grad.double().cpu(),
            self.boxes.double().cpu(),
            self.spatial_scale,
            *self.output_size,
            *self.features.shape,
            self.sampling_ratio,
            self.aligned,
        )


@dataclass(frozen=True, kw_only=True)
class MultiscaleRoiAlignShape(RoiAlignShape):
    """``multiscale_roi_align``: every box from the level of a pyramid that its size calls for.

    The finest map is [n, c, h, w] of ``spatial_scale``; each further level is half as large.
    """

    op: ClassVar[str] = "multiscale_roi_align"

    levels: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each level, halves rounded up as a stride-2 layer does."""
        steps = [2**level for level in range(self.levels)]
        return [(-(-self.h // step), -(-self.w // step)) for step in steps]

    @property
    def scales(self) -> list[float]:
        return [self.spatial_scale / 2**level for level in range(self.levels)]

    @property
    def bytes(self) -> int:
        bins = self.boxes * self.output_size[0] * self.output_size[1] * self.c
        pixels = self.n * self.c * sum(height * width for height, width in self.sizes)
        touched = min(pixels, 4 * self.samples * self.c)
        return (touched + bins + 5 * self.boxes) * self.torch_dtype.itemsize

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "features": [(self.n, self.c, *size) for size in self.sizes],
            "boxes": (self.boxes, 5),
            "output_size": self.output_size,
            "scales": self.scales,
            "sampling_ratio": self.sampling_ratio,
        }

    def problem(self, seed: int = 0, device: str = "cpu") -> MultiscaleRoiAlign:
        return MultiscaleRoiAlign(self, seed, device)


class MultiscaleRoiAlign(Problem):
    """A feature map for each level, and boxes [K, 5] in the order of their images."""

    shape: MultiscaleRoiAlignShape

    def __init__(self, shape: MultiscaleRoiAlignShape, seed: int, device: str) -> None:
        self.shape = shape
        random = generator(seed, device)
        self.features = [
            torch.randn((shape.n, shape.c, *size), generator=random, device=device).to(
                shape.torch_dtype, memory_format=shape.memory_format
            )
            for size in shape.sizes
        ]
        boxes = _boxes(shape, random, device).to(shape.torch_dtype)
        self.boxes = boxes[boxes[:, 0].argsort(stable=True)]
        self.scales, self.output_size = shape.scales, shape.output_size
        self.sampling_ratio = shape.sampling_ratio

    @property
    def boxes_of_images(self) -> list[Tensor]:
        """[L, 4] of each image."""
        return [self.boxes[self.boxes[:, 0] == n, 1:] for n in range(self.shape.n)]

    @property
    def tolerance(self) -> float:
        return max(super().tolerance, 1e-4)  # as for RoiAlign

    def reference(self) -> Tensor:
        """torchvision in float64, level by level; the level is chosen in the dtype of the boxes."""
        from torchvision.ops import roi_align
        from torchvision.ops.poolers import LevelMapper

        shape = self.shape
        first = round(-math.log2(self.scales[0]))
        mapper = LevelMapper(first, first + shape.levels - 1)
        levels = mapper([self.boxes[:, 1:].cpu()]).to(self.boxes.device)
        size = (shape.boxes, shape.c, *shape.output_size)
        output = torch.zeros(size, dtype=torch.float64, device=self.boxes.device)
        for level, (features, scale) in enumerate(zip(self.features, self.scales, strict=True)):
            boxes = self.boxes[levels == level].double()
            call = (self.output_size, scale, self.sampling_ratio)
            output[levels == level] = roi_align(features.double(), boxes, *call)
        return output
