"""A training run for torchrun: it saves every second step, resumes, and dies where it is told to.

``torchrun ... toy_training.py FOLDER WEIGHTS [DIE_AT]``
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))
from cvperf.train.distributed import checkpoint

from distributed_toys import network, pictures  # isort: skip

EPOCHS, STEPS, BATCH = 2, 5, 8


def train(folder: Path, die_at: int | None = None) -> list[torch.Tensor]:
    """All steps that the folder's checkpoint does not have; the parameters in the end."""
    model = DistributedDataParallel(network(norm=False))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    state = {"training": checkpoint.Training(model, optimizer)}
    done = checkpoint.load(folder, state) or 0
    for step in range(done, EPOCHS * STEPS):
        if step == die_at and dist.get_rank() == 1 and done == 0:
            print(f"killed before step {step}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        images, targets = (part.chunk(2)[dist.get_rank()] for part in pictures(BATCH, seed=step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()
        if step % 2:
            checkpoint.save(folder, step + 1, state)
    if dist.get_rank() == 0:
        print(f"started at step {done}, restart {os.environ.get('TORCHELASTIC_RESTART_COUNT')}")
    return [parameter.detach().clone() for parameter in model.parameters()]


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    folder, weights, *die_at = sys.argv[1:]
    trained = train(Path(folder), *map(int, die_at))
    if dist.get_rank() == 0:
        torch.save(trained, weights)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
