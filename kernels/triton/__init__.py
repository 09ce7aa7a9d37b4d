"""Triton kernels: one file an op. They import triton and each other, and nothing else.

A kernel that no GPU has run yet says so in its design note; docs/gpu.md has the table.
"""
