"""Training and judging of detectors: what surrounds the model."""
