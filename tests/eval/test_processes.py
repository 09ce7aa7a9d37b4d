"""Two processes with a part of the samples each find what one finds with all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import distributed

from cvperf.eval import Classification, Detection, Regression

NAMES = ("ant", "bee", "cat")
N = 50


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 3, generator=generator), torch.randint(3, (N,), generator=generator)


def metrics_of(part: slice, kind: str) -> tuple[Classification, Regression]:
    logits, targets = samples()
    single = kind == "single"
    classification = Classification(NAMES, "single" if single else "multi")
    wanted = targets if single else torch.nn.functional.one_hot(targets, 3)
    classification.update(logits[part], wanted[part])
    regression = Regression(huber=1.0)
    regression.update(logits[part, 0], targets[part].float())
    return classification, regression


def detection_of(part: slice) -> Detection:
    """Images with an object each, of which every second one is found; all scores are alike."""
    found, truth = [], []
    for number in range(N)[part]:
        box = torch.tensor([[0.0, 0, 10 + number, 20]])
        labels = torch.tensor([number % 3])
        truth.append({"boxes": box, "labels": labels})
        found.append({"boxes": box + 20 * (number % 2), "labels": labels, "scores": torch.ones(1)})
    metrics = Detection(NAMES)
    metrics.update(found, truth)
    return metrics


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # the pool of threads did not come along with the fork
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    found = {}
    # Uneven, and then with nothing at all for the second process.
    for first in (37, N):
        part = slice(0, first) if rank == 0 else slice(first, N)
        for kind in ("single", "multi"):
            classification, regression = metrics_of(part, kind)
            found[first, kind] = classification.compute() | regression.compute()
            if kind == "single":
                found[first, "confusion"] = classification.confusion.tolist()
    # As images are shared out: each process has every second one.
    found["detection"] = detection_of(slice(rank, N, 2)).compute()
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_metrics_are_summed_over_processes(tmp_path: Path) -> None:
    # Forked, for a process that starts afresh imports torchmetrics for seconds.
    torch.multiprocessing.start_processes(
        work, args=(str(tmp_path),), nprocs=2, start_method="fork"
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for kind in ("single", "multi"):
        classification, regression = metrics_of(slice(0, N), kind)
        alone = classification.compute() | regression.compute()
        for split in (37, N):
            assert first[split, kind] == second[split, kind]
            assert first[split, kind] == pytest.approx(alone, abs=1e-6)
            if kind == "single":
                assert first[split, "confusion"] == classification.confusion.tolist()
    # Equal scores make precision a matter of order, which is the same too.
    assert first["detection"] == second["detection"] == detection_of(slice(0, N)).compute()
