"""The handlers of ONNX's operators, by theme. Importing this package fills the table."""

from cvperf.onnx.operators import (
    constants,
    convolution,
    detection,
    elementwise,
    indexing,
    linear,
    normalisation,
    padding,
    pooling,
    quantisation,
    recurrent,
    reductions,
    resize,
    shapes,
)

__all__ = [
    "constants",
    "convolution",
    "detection",
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "padding",
    "pooling",
    "quantisation",
    "recurrent",
    "reductions",
    "resize",
    "shapes",
]
