"""Which images form which batch."""

import torch

from cvperf.train.batches import ShuffledBatches


def test_an_epoch_shows_each_image_once_but_those_left_over():
    batches = list(ShuffledBatches(103, 10, seed=0))
    seen = [index for batch in batches for index in batch]
    assert len(batches) == 10
    assert len(set(seen)) == 100


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = ShuffledBatches(50, 10, seed=0)
    first = list(sampler)
    sampler.start(1)
    second = list(sampler)
    sampler.start(0)
    assert first == list(sampler) != second
    assert first != list(ShuffledBatches(50, 10, seed=1))


def test_an_epoch_can_start_at_any_batch():
    sampler = ShuffledBatches(50, 10, seed=0)
    whole = list(sampler)
    sampler.start(0, 3)
    assert list(sampler) == whole[3:]


def test_the_batches_of_all_processes_together_are_those_of_one():
    alone = list(ShuffledBatches(64, 8, seed=3))
    shares = [list(ShuffledBatches(64, 8, seed=3, rank=rank, world=2)) for rank in range(2)]
    for batch, first, second in zip(alone, *shares, strict=True):
        assert sorted(first + second) == sorted(batch)


def test_a_small_set_is_one_batch():
    assert [sorted(batch) for batch in ShuffledBatches(3, 128, seed=0)] == [[0, 1, 2]]


def test_weights_say_how_often_an_image_is_drawn():
    weights = torch.tensor([1.0, 0.0, 3.0])
    drawn = torch.tensor([i for b in ShuffledBatches(3, 1, 0, weights=weights) for i in b])
    many = ShuffledBatches(4000, 4000, 0, weights=weights.repeat(4000)[:4000])
    share = (torch.tensor(next(iter(many))) % 3 == 2).double().mean()
    assert 1 not in drawn
    assert abs(share - 0.75) < 0.03
