"""Kernel sources: cpu (compiled into cvperf._C), and later cuda and triton."""
