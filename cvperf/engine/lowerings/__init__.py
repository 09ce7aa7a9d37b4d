"""How operators become our kernels' calls; importing this registers them all."""

from cvperf.engine.lowerings import convolution

__all__ = ["convolution"]
