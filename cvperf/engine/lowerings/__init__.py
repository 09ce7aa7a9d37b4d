"""How operators become our kernels' calls; importing this registers them all."""

from cvperf.engine.lowerings import (
    arithmetic,
    binary,
    convolution,
    copies,
    narrow,
    pooling,
    quantised,
)

__all__ = ["arithmetic", "binary", "convolution", "copies", "narrow", "pooling", "quantised"]
