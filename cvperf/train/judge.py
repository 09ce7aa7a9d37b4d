"""Figures of a run's model on a set of images, shared among the processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor, nn

from cvperf.data import Batch, ImageSet
from cvperf.train.checkpoint import unwrapped
from cvperf.train.distributed.sharding import gathered
from cvperf.train.evaluate import Metrics, evaluate
from cvperf.train.loader import in_order
from cvperf.train.losses import Criterion
from cvperf.train.objective import Normalize
from cvperf.train.recipe import Recipe


@dataclass(frozen=True)
class Judge:
    """Judges models alike: same normalisation, same loss, same metrics."""

    fabric: Fabric
    recipe: Recipe
    normalize: Normalize
    criterion: Criterion
    metrics: Metrics

    def __call__(
        self,
        model: nn.Module,
        images: ImageSet,
        seen: Callable[[Tensor, Batch], None] = lambda answers, batch: None,
    ) -> dict[str, float]:
        """The loss and metrics; the model is in evaluation mode.

        Args:
            model: image to logits.
            images: each is looked at once, by one of the processes.
            seen: called with answers and batch, of this process's images.
        """
        fabric, recipe, plain = self.fabric, self.recipe, unwrapped(model)
        batches = in_order(
            images,
            max(1, recipe.batch_size // fabric.world_size),
            fabric.device,
            rank=fabric.global_rank,
            world=fabric.world_size,
            workers=recipe.data.workers,
        )
        # A process may have one batch more than another, so none may wait for others in a forward.
        with gathered(plain), fabric.autocast():
            return evaluate(plain, batches, self.normalize, self.criterion, self.metrics, seen)
