"""NMS by our plain sweep of each box over all kept ones: what pruning must never be slower than."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from cvperf.backends.registry import prefer
from cvperf.bench.contender import Contender
from cvperf.bench.peers.base import Peer, only_by_name
from cvperf.bench.peers.ours import OURS
from cvperf.bench.problems.nms import Nms


def nms(problem: Nms) -> Contender:
    pruned = OURS.makers["nms"](problem)

    @contextmanager
    def context() -> Iterator[None]:
        with pruned.context(), prefer("cpu sweep"):
            yield

    return replace(pruned, context=context)


PEER = Peer("sweep", OURS.packages, {"nms": nms}, unasked=only_by_name)
