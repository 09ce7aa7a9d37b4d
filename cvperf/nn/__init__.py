"""Layers on cvperf's ops, to build and train models with."""

from cvperf.nn.binary import BinaryConv2d, BinaryLinear, clip_latent_weights, sign

__all__ = ["BinaryConv2d", "BinaryLinear", "clip_latent_weights", "sign"]
