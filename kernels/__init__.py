"""Kernel sources: cpu (compiled into cvperf._C) and triton; later cuda."""
