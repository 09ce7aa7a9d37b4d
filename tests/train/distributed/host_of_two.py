"""What each of two hosts does, for torchrun: gradients, and steps with bytes and seconds.

``torchrun --nnodes=2 ... host_of_two.py INTERFACE FOLDER``
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))
from cvperf.train.distributed.compression import Compression, compress

from distributed_toys import gradients, network, pictures  # isort: skip

BATCH, STEPS, START = 8, 6, 3


def wide() -> nn.Module:
    """A network of two megabytes, so that a step has something to send."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 1024), nn.ReLU(), nn.Linear(1024, 384))


def sent(interface: str) -> int:
    """Bytes that this host has sent, headers and all."""
    return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text())


def timed_steps(interface: str) -> list[dict[str, float]]:
    """Steps whose gradients travel whole, then in low rank: seconds, bytes on the wire, payload."""
    model = DistributedDataParallel(wide(), bucket_cap_mb=25)
    traffic = compress(model, Compression("powersgd", rank=1, start_step=START)).traffic
    images, targets = pictures(BATCH)
    steps = []
    for _ in range(STEPS):
        dist.barrier()
        payload, wire, start = traffic.payload, sent(interface), time.perf_counter()
        nn.functional.cross_entropy(model(images), targets).backward()
        seconds = time.perf_counter() - start
        dist.barrier()
        steps.append(
            {
                "seconds": seconds,
                "wire": sent(interface) - wire,
                "payload": traffic.payload - payload,
            }
        )
    return steps


def main() -> None:
    torch.set_num_threads(1)
    interface, folder = sys.argv[1:]
    dist.init_process_group("gloo", timeout=timedelta(seconds=40))
    half = [part.chunk(2)[dist.get_rank()] for part in pictures(BATCH)]
    model = DistributedDataParallel(network(norm=False))
    gradients(model, *half)
    found = {name: p.grad for name, p in model.module.named_parameters()}
    result = {"gradients": found, "steps": timed_steps(interface)}
    torch.save(result, Path(folder, f"{dist.get_rank()}.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
