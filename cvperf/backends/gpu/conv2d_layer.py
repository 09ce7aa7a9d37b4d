"""A convolution's sizes, and what follows from them for a kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cvperf.backends.cpu.conv2d import convolution_shape, window_of

FLAT_CHANNELS = 8
"""Images of up to so many channels are read as a flattened sum: a block of one tap is too short."""


@dataclass(frozen=True)
class Layer:
    """A convolution's sizes; channels and filters are those of one group."""

    images: int
    channels: int
    height: int
    width: int
    filters: int
    out_height: int
    out_width: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(
        cls,
        image: Sequence[int],
        weight: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Layer:
        """From the shapes of image and weight."""
        window = window_of(weight, stride, padding, dilation)
        shape = convolution_shape(image, weight, window)
        return cls(
            *(image[0], weight[1], image[2], image[3], weight[0] // groups, shape[2], shape[3]),
            *(groups, window[:2], window[2:4], window[4:6], window[6:]),
        )

    @property
    def depthwise(self) -> bool:
        return self.channels == 1 and self.groups > 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Of all outputs."""
        return self.images * self.out_height * self.out_width

    @property
    def output(self) -> tuple[int, int, int, int]:
        return self.images, self.filters * self.groups, self.out_height, self.out_width

    @property
    def pointwise(self) -> bool:
        """Whether output and image have the same pixels, one to one."""
        return (*self.kernel, *self.stride, *self.padding) == (1, 1, 1, 1, 0, 0)

    @property
    def classes(self) -> int:
        """Of the image's pixels, by the remainder of their coordinates: they share their taps."""
        return self.stride[0] * self.stride[1]

    @property
    def class_pixels(self) -> int:
        """Pixels of the largest class."""
        sizes = -(-self.height // self.stride[0]), -(-self.width // self.stride[1])
        return self.images * sizes[0] * sizes[1]

    @property
    def numbers(self) -> int:
        """Of image, weight and output together."""
        image = self.images * self.channels * self.groups * self.height * self.width
        return image + self.weights + math.prod(self.output)

    @property
    def weights(self) -> int:
        return self.filters * self.groups * self.channels * self.taps

    @property
    def wide(self) -> bool:
        """Whether an offset within image or output needs 64 bits."""
        image = self.images * self.height * self.width * self.channels * self.groups
        return max(image, math.prod(self.output)) >= 2**31

    @property
    def flat(self) -> int:
        """The channels, if the sum is to be flattened; else 0."""
        few = self.groups == 1 and self.channels <= FLAT_CHANNELS and self.taps > 1
        return self.channels if few and not self.wide else 0


def vector_of(size: int, itemsize: int) -> int:
    """The largest power of two that divides ``size``, up to 16 bytes of it."""
    return math.gcd(size, 16 // itemsize)


def power_of_two(size: int) -> int:
    """The least that is not below ``size``."""
    return 1 << max(size - 1, 0).bit_length()
