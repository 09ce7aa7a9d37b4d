"""What the CUDA C++ and the Triton kernels share: models of the GPUs, and which one is at hand."""
