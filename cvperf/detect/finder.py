"""A detector as the command uses it: from 8-bit pixels to what is sure enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cvperf.detect.detectors import Detector


@dataclass(frozen=True)
class Finder:
    """Detects in pictures one by one.

    Attributes:
        detector: whose model is on ``device``.
        threshold: score from which a detection counts.
        tile: pixels of a tile's side; 0: pictures are not cut.
        overlap: share of a tile's side that the next has as well.
        device: where the model runs.
    """

    detector: Detector
    threshold: float = 0.4
    tile: int = 0
    overlap: float = 0.2
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """What is in an image, uint8 [3, H, W].

        Returns:
            on the CPU: ``boxes`` float32 [n, 4] XYXY in pixels, ``labels`` int64 [n], ``scores``
            float32 [n], and where the model has them, and there are no tiles, ``masks`` bool
            [n, H, W].
        """
        from cvperf.models.detection.tiles import detect_in_tiles

        pixels = image.to(self.device).float() / 255
        if self.tile:
            found = detect_in_tiles(self.detector.model, pixels, self.tile, self.overlap)
        else:
            (found,) = self.detector.model([pixels])
        sure = found["scores"] >= self.threshold
        kept = {name: found[name][sure].cpu() for name in ("boxes", "labels", "scores")}
        if "masks" in found:
            kept["masks"] = (found["masks"][sure, 0] >= 0.5).cpu()
        return kept
