"""Networks by name: our small ones, torchvision's and timm's, with new heads and local weights."""

from cvperf.models.create import create_model, known_models
from cvperf.models.weights import load_weights

__all__ = ["create_model", "known_models", "load_weights"]
