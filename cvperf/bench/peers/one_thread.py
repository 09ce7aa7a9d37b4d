"""Ourselves on one thread: its ratio to us is what the threads in use gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.peers.base import Maker, Peer, only_by_name
from cvperf.bench.peers.ours import OURS


def _alone(maker: Maker, problem: Any) -> Contender:
    """The call while torch has one thread."""
    made = maker(problem)

    @contextmanager
    def context() -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with made.context():
                yield
        finally:
            torch.set_num_threads(threads)

    return replace(made, context=context)


PEER = Peer(
    "one-thread",
    OURS.packages,
    {op: partial(_alone, maker) for op, maker in OURS.makers.items()},
    unasked=only_by_name,
)
