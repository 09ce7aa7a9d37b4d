"""Figures of a detector on a set of images, and pictures of what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cvperf.data import Batch, ImageSet
from cvperf.eval import Detection
from cvperf.train.checkpoint import unwrapped
from cvperf.train.detection.gallery import Gallery
from cvperf.train.detection.labels import from_model, to_floats
from cvperf.train.distributed.sharding import gathered
from cvperf.train.loader import shared_out
from cvperf.train.recipe import Recipe
from cvperf.train.sets import Sets
from cvperf.train.tasks.base import Verdict

Seen = Callable[[list[dict[str, Tensor]], Batch], None]
"""Called with what was found in a batch, labels from 0."""


def _nothing(found: Any, batch: Batch) -> None:
    """Where nobody looks."""


@dataclass(frozen=True)
class DetectionJudge:
    """Judges detectors alike, by the metrics of COCO."""

    fabric: Fabric
    recipe: Recipe
    metrics: Detection

    def __call__(
        self, model: nn.Module, images: ImageSet, seen: Seen = _nothing
    ) -> dict[str, float]:
        """The metrics; the model is in evaluation mode.

        Args:
            model: images to detections.
            images: each is looked at once, by one of the processes.
            seen: called with answers and batch, of this process's images.
        """
        fabric, plain = self.fabric, unwrapped(model)
        batches = shared_out(fabric, self.recipe, images)
        self.metrics.reset()
        # A process may have one batch more than another, so none may wait for others in a forward.
        with gathered(plain), fabric.autocast(), torch.inference_mode():
            for batch in batches:
                if len(batch.images):  # some could be read
                    found = from_model(plain(to_floats(batch.images)))
                    self.metrics.update(found, batch.targets)
                    seen(found, batch)
        return self.metrics.compute()

    def last(self, model: nn.Module, images: Sets) -> Verdict:
        """A run's answer: figures on the test images, or on those for validation without any."""
        gallery = Gallery(self.metrics.classes)
        figures = self(model, images.test or images.validation, gallery)
        shown = {"confusion": None, "mistakes": (), "pictures": gallery.scenes()}
        return Verdict(figures, shown)
