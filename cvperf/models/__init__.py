"""Networks by name: our small ones, torchvision's and timm's, with new heads and local weights."""

from cvperf.models.create import create_model, known_models
from cvperf.models.narrow import narrow
from cvperf.models.weights import head_of, load_weights

__all__ = ["create_model", "head_of", "known_models", "load_weights", "narrow"]
