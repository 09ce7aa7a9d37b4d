"""What the CUDA C++ and the Triton kernels share: the GPUs, their models, what is served."""
