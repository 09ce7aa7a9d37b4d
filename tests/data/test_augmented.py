"""Augmentation depends on seed, epoch and sample alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler

from cvperf.data import Augmented, Broken, InMemory, collate, transforms


def pictures(count: int = 12) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return InMemory(images, torch.arange(count) % 3, ("a", "b", "c"))


def augmented(seed: int = 3) -> Augmented:
    entries = [
        {"name": "random_crop", "padding": 4},
        {"name": "gaussian_noise", "p": 0.5},
        "cutout",
    ]
    return Augmented(pictures(), transforms.build(entries), seed)


def loader(dataset: Augmented, workers: int, start: int = 0) -> DataLoader[Any]:
    """Batches in the order of the dataset's epoch, from number ``start`` on."""
    sampler: DistributedSampler[Any] = DistributedSampler(dataset, num_replicas=1, rank=0, seed=5)
    sampler.set_epoch(int(dataset._epoch))
    order = torch.tensor(list(sampler)).split(4)[start:]
    batches = [indices.tolist() for indices in order]
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers)


def images_of(batches: Any) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches])


def test_the_same_seed_gives_the_same_pixels_and_another_does_not() -> None:
    first, same, other = augmented()[5][0], augmented()[5][0], augmented(seed=4)[5][0]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_each_epoch_and_sample_has_numbers_of_its_own() -> None:
    dataset = Augmented(pictures(), lambda image, target: (torch.rand(()).item(), target), 0)
    drawn = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        drawn |= {dataset[i][0] for i in range(12)}
    assert len(drawn) == 36


def test_loader_processes_change_nothing_and_a_run_resumes_at_a_batch_in_the_middle() -> None:
    dataset = augmented()
    dataset.set_epoch(2)
    alone = images_of(loader(dataset, workers=0))
    assert torch.equal(images_of(loader(dataset, workers=2)), alone)
    resumed = augmented()
    resumed.set_epoch(2)
    assert torch.equal(images_of(loader(resumed, workers=0, start=1)), alone[4:])


def test_a_new_epoch_reaches_loader_processes_that_persist() -> None:
    dataset = augmented()
    options = {"batch_size": 4, "collate_fn": collate, "num_workers": 1}
    lasting: DataLoader[Any] = DataLoader(dataset, persistent_workers=True, **options)  # type: ignore[arg-type]
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(images_of(lasting))
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[1][:4], images_of(iter([collate([dataset[i] for i in range(4)])])))


def test_generators_of_the_process_are_left_as_they_were() -> None:
    def numbers() -> tuple[Any, ...]:
        return torch.rand(()).item(), np.random.random(), random.random()

    def seed_all() -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)

    inside = []

    def transform(image: Any, target: Any) -> Any:
        inside.append(numbers())
        return image, target

    dataset = Augmented(pictures(), transform, 0)
    seed_all()
    expected = numbers()
    seed_all()
    dataset[0]
    assert numbers() == expected
    dataset[0]
    assert inside[0] == inside[1] != expected


def test_broken_samples_pass_through() -> None:
    class Torn(InMemory):
        def __getitem__(self, index: int) -> Any:
            return Broken("a.jpg", "torn")

    whole = pictures()
    torn = Augmented(Torn(whole.images, whole.labels, whole.classes), transforms.build(["invert"]))
    assert torn[0] == Broken("a.jpg", "torn")
    assert torn.classes == whole.classes


def test_images_in_memory_as_they_are_come_out_in_one_piece() -> None:
    images = torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8)
    plain = Augmented(InMemory(images, torch.arange(10), [str(i) for i in range(10)]), None)
    loader = DataLoader(plain, batch_size=4, collate_fn=collate)
    batches = list(loader)
    assert [len(batch.images) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.images for batch in batches]), images)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), torch.arange(10))
    assert torch.equal(plain[3][0], images[3])
