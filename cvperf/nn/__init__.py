"""Layers on cvperf's ops, to build and train models with."""

from cvperf.nn.binary import BinaryConv2d, BinaryLinear, clip_latent_weights, sign
from cvperf.nn.fused import TrainingFusion, fuse_for_training

__all__ = [
    "BinaryConv2d",
    "BinaryLinear",
    "TrainingFusion",
    "clip_latent_weights",
    "fuse_for_training",
    "sign",
]
