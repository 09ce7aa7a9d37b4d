"""How operators become our kernels' calls; importing this registers them all."""

from cvperf.engine.lowerings import arithmetic, binary, convolution, copies, pooling, quantised

__all__ = ["arithmetic", "binary", "convolution", "copies", "pooling", "quantised"]
