"""Figures of a run's model on a set of images, shared among the processes."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_fabric import Fabric
from torch import Tensor, nn

from cvperf.data import Batch, ImageSet
from cvperf.eval import Classification
from cvperf.train import thresholds
from cvperf.train.checkpoint import unwrapped
from cvperf.train.distributed.sharding import gathered
from cvperf.train.evaluate import Metrics, Worst, evaluate
from cvperf.train.loader import shared_out
from cvperf.train.losses import Criterion
from cvperf.train.objective import Normalize
from cvperf.train.recipe import Recipe
from cvperf.train.sets import Sets
from cvperf.train.tasks.base import Verdict
from cvperf.train.thresholds import Seen


def _nothing(answers: Tensor, batch: Batch) -> None:
    """Where nobody looks."""


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
        seen: Seen = _nothing,
    ) -> dict[str, float]:
        """The loss and metrics; the model is in evaluation mode.

        Args:
            model: image to logits.
            images: each is looked at once, by one of the processes.
            seen: called with answers and batch, of this process's images.
        """
        fabric, plain = self.fabric, unwrapped(model)
        batches = shared_out(fabric, self.recipe, images)
        # A process may have one batch more than another, so none may wait for others in a forward.
        with gathered(plain), fabric.autocast():
            return evaluate(plain, batches, self.normalize, self.criterion, self.metrics, seen)

    @property
    def confusion(self) -> Tensor | None:
        """Of the images judged last, int64 [classes, classes]; None unless each has one class."""
        one = isinstance(self.metrics, Classification) and self.metrics.kind == "single"
        return self.metrics.confusion if one else None  # type: ignore[union-attr]

    def last(self, model: nn.Module, images: Sets) -> Verdict:
        """A run's answer: figures on the test images, or on those for validation without any.

        With ``thresholds.tune`` also those at thresholds that were chosen on the validation images.

        Args:
            model: image to logits, in evaluation mode.
            images: the sets of the recipe.
        """
        worst = Worst()
        figures = self._tested(model, images, worst)
        mistakes = worst.mistakes(images.train.classes)
        return Verdict(figures, {"confusion": self.confusion, "mistakes": mistakes})

    def _tested(self, model: nn.Module, images: Sets, seen: Seen) -> dict[str, float]:
        metric = self.recipe.thresholds.tune
        if not metric or images.test is None:
            return self(model, images.test or images.validation, seen)
        held = thresholds.Answers()
        self(model, images.validation, held)
        chosen = held.tuned(metric)
        tuned = Classification(
            images.train.classes,
            "multi",
            thresholds=chosen,
            curve_points=0,
            device=self.fabric.device,
        )

        def both(answers: Tensor, batch: Batch) -> None:
            tuned.update(answers, batch.targets)
            seen(answers, batch)

        return self(model, images.test, both) | thresholds.figures(tuned, chosen)
