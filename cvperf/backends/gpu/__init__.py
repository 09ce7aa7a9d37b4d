"""What the CUDA C++ and the Triton kernels share: the models of the GPUs, and which GPU is at hand."""
