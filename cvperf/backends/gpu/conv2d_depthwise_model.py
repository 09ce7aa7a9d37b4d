"""What the models of depthwise convolutions count, whatever the kernel is written in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.model import Architecture, roofline


@dataclass(frozen=True)
class Gather:
    """The convolution, or with ``turned`` the gradient of its input: both gather over taps.

    Attributes:
        layer: its sizes.
        itemsize: bytes of a number that is read.
        out_itemsize: bytes of one that is written.
        turned: which of the two.
        residual: whether one is read for each number written.
    """

    layer: Layer
    itemsize: int
    out_itemsize: int
    turned: bool = False
    residual: bool = False

    @property
    def pixels(self) -> int:
        """Of what is written."""
        layer = self.layer
        return layer.images * layer.height * layer.width if self.turned else layer.pixels

    @property
    def channels(self) -> int:
        """Of what is written."""
        return self.layer.groups * (1 if self.turned else self.layer.filters)

    @property
    def written_bytes(self) -> int:
        """A number, with the residual that is read for it."""
        return self.out_itemsize * (2 if self.residual else 1)

    @property
    def memory_bytes(self) -> int:
        """Read and written at least once."""
        written = self.pixels * self.channels
        return (self.layer.numbers - written) * self.itemsize + written * self.written_bytes


def least_seconds(machine: Architecture, layer: Layer, memory_bytes: int) -> float:
    """Seconds by the roofline: a multiply-add for each tap of each output, in float32's rate."""
    operations = 2.0 * layer.taps * math.prod(layer.output)
    return roofline(machine, operations, "float32", memory_bytes)


def footprint(layer: Layer, pixels: int, taps_high: int, turned: bool) -> float:
    """Pixels that so many neighbours of what is written read together, each counted once."""
    width = layer.width if turned else layer.out_width
    size = layer.out_width if turned else layer.width

    def extent(outputs: float, taps: int, side: int) -> float:
        step, reach = float(layer.stride[side]), float(layer.dilation[side])
        if turned:
            step, reach = 1 / step, reach / step
        return min(outputs * taps, (outputs - 1) * step + (taps - 1) * reach + 1)

    lines, across = max(1.0, pixels / max(width, 1)), min(pixels, width)
    return extent(lines, taps_high, 0) * min(size, extent(across, layer.kernel[1], 1))
