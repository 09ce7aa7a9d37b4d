"""How operators become our kernels' calls; importing this registers them all."""

from cvperf.engine.lowerings import arithmetic, convolution, copies, narrow, pooling, quantised

__all__ = ["arithmetic", "convolution", "copies", "narrow", "pooling", "quantised"]
