"""Detectors: boxes, and for some of them masks, of the objects in an image."""

from cvperf.models.detection.create import create_detector, known_detectors

__all__ = ["create_detector", "known_detectors"]
