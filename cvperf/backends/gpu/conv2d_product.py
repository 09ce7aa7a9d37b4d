"""The matrix products that a convolution and its gradients are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cvperf.backends.gpu.conv2d_layer import Layer
from cvperf.backends.gpu.model import Architecture, roofline

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Parts that a sum may be cut into."""


@dataclass(frozen=True)
class Product:
    """The matrix product that a convolution is.

    Attributes:
        rows: of the result, in each of ``copies`` products.
        columns: of the result.
        terms: in the sum, a multiple of ``run``.
        run: terms that lie side by side in memory; blocks of the sum do not cross it.
        copies: products side by side: groups, taps, classes of a stride.
        kind: of multiplication: half, tf32, float32 (three of tf32) or int8.
        itemsize: bytes of an operand.
        memory_bytes: read and written at least once.
    """

    rows: int
    columns: int
    terms: int
    run: int
    copies: int
    kind: str
    itemsize: int
    memory_bytes: int

    def blocks(self, depth: int) -> int:
        """Of the sum, ``depth`` terms each."""
        return -(-self.run // depth) * (self.terms // max(self.run, 1))

    def least_seconds(self, machine: Architecture) -> float:
        """By the roofline."""
        kind, times = ("tf32", 3) if self.kind == "float32" else (self.kind, 1)
        operations = 2.0 * times * self.rows * self.columns * self.terms * self.copies
        return roofline(machine, operations, kind, self.memory_bytes)


def forward_product(layer: Layer, kind: str, itemsize: int, out_itemsize: int) -> Product:
    """Rows are pixels, columns filters."""
    terms = layer.taps * layer.channels
    return Product(
        rows=layer.pixels,
        columns=layer.filters,
        terms=terms,
        run=terms if layer.flat else layer.channels,
        copies=layer.groups,
        kind=kind,
        itemsize=itemsize,
        memory_bytes=layer.numbers * itemsize + math.prod(layer.output) * (out_itemsize - itemsize),
    )


def input_grad_product(layer: Layer, kind: str, itemsize: int) -> Product:
    """Rows are pixels of the image in each class, columns channels."""
    return Product(
        rows=layer.class_pixels,
        columns=layer.channels,
        terms=max(1, layer.taps // layer.classes) * layer.filters,
        run=layer.filters,
        copies=layer.groups * layer.classes,
        kind=kind,
        itemsize=itemsize,
        memory_bytes=layer.numbers * itemsize,
    )


def weight_grad_product(layer: Layer, kind: str, itemsize: int) -> Product:
    """Rows are filters, columns channels of each tap; the sum runs over the pixels."""
    return Product(
        rows=layer.filters,
        columns=layer.taps * layer.channels if layer.flat else layer.channels,
        terms=layer.pixels,
        run=layer.pixels,
        copies=layer.groups * (1 if layer.flat else layer.taps),
        kind=kind,
        itemsize=itemsize,
        memory_bytes=layer.numbers * itemsize,
    )
