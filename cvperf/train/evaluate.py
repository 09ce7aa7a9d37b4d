"""How good a model is on a set of images, its mistakes included."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvperf.data import Batch
from cvperf.eval import Classification, Regression
from cvperf.train.losses import Criterion
from cvperf.train.report import Mistake

Metrics = Classification | Regression


def metrics_for(classes: Sequence[str], labels: Tensor) -> Metrics:
    """The metrics of a set whose labels are int64 [N], float [N, classes] or float [N]."""
    if not labels.is_floating_point():
        return Classification(classes, "single")
    return Classification(classes, "multi") if labels.dim() == 2 else Regression()


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    normalize: Callable[[Tensor], Tensor],
    criterion: Criterion,
    metrics: Metrics,
    seen: Callable[[Tensor, Batch], None] = lambda answers, batch: None,
) -> dict[str, float]:
    """Loss and metrics of a model over all batches, of every process together.

    Args:
        model: in evaluation mode.
        batches: on the model's device.
        normalize: images to what the model takes.
        criterion: the loss; its mean over the images is ``"loss"``.
        metrics: reset first.
        seen: called with the answers of each batch.
    """
    metrics.reset()
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            if not len(batch.images):
                continue  # every one of them was broken
            answers = model(normalize(batch.images))
            answers = answers.float()
            metrics.update(answers, batch.targets)
            total += float(criterion(answers, batch.targets)) * len(batch.images)
            count += len(batch.images)
            seen(answers, batch)
    sums = torch.tensor([total, count], dtype=torch.float64)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return {"loss": float(sums[0] / sums[1]), **metrics.compute()}


class Worst:
    """The mistakes that the model was surest of; for ``evaluate(seen=...)``.

    Of this process's images, and only where each has one class.

    Args:
        keep: how many.
    """

    def __init__(self, keep: int = 24) -> None:
        self._keep = keep
        # (loss, minus its place, ...): of equal losses the first image stays.
        self._heap: list[tuple[float, int, Tensor, int, int]] = []
        self._count = 0

    def __call__(self, answers: Tensor, batch: Batch) -> None:
        targets = batch.targets
        if targets.dim() != 1 or targets.is_floating_point():
            return
        losses = F.cross_entropy(answers, targets, reduction="none")
        found = answers.argmax(1)
        for index in (found != targets).nonzero().flatten().tolist():
            self._count -= 1
            image = batch.images[index].cpu()
            mistake = (
                float(losses[index]),
                self._count,
                image,
                int(targets[index]),
                int(found[index]),
            )
            push = heapq.heappush if len(self._heap) < self._keep else heapq.heappushpop
            push(self._heap, mistake)

    def mistakes(self, classes: Sequence[str]) -> list[Mistake]:
        """The worst first."""
        ordered = sorted(self._heap, key=lambda one: one[:2], reverse=True)
        return [
            Mistake(image, classes[truth], classes[answer], loss)
            for loss, _, image, truth, answer in ordered
        ]
