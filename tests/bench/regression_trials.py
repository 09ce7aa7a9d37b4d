"""Does a report tell 10 % slower code from the same code, on a real clock?

``python -m tests.bench.regression_trials`` runs 20 trials of each on this machine and exits with 1
unless all 40 verdicts are right. It takes five minutes and wants a machine that is left alone,
which CI's is not: there ``test_regression.py`` asks the same of simulated noise.
"""

from __future__ import annotations

import sys
from collections import Counter

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.report.regression import compare
from cvperf.bench.results import Measurement
from cvperf.bench.runner import plan
from cvperf.bench.timing import measure
from tests.bench.made_up import row

TRIALS = 20
SECONDS = 1.0
"""Of a contender on a case: ``cvperf bench --seconds``."""
OURS, PEERS = 20, {"torch": 30, "onnxruntime": 34, "openvino": 26, "torch.compile": 40}
"""Products of two 64x64 matrices a call: what stands for each contender's work."""


def run(seed: int, ours: int) -> list[Measurement]:
    """One case as ``cvperf bench kernels`` times it, every contender at work of a known size."""
    work = {"cvperf": ours, **PEERS}
    timings = measure(
        [_work(times) for times in work.values()], plan("kernels", SECONDS), seed=seed
    )
    return [
        row(name, samples_ms=list(timing.samples_ms))
        for name, timing in zip(work, timings, strict=True)
    ]


def _work(times: int) -> Contender:
    left, right = torch.rand(2, 64, 64)

    def products() -> torch.Tensor:
        for _ in range(times):
            product = left @ right
        return product

    return Contender(products)


def main() -> int:
    torch.set_num_threads(1)
    found: dict[str, Counter[str]] = {"10 % slower": Counter(), "the same": Counter()}
    for trial in range(TRIALS):
        before = run(3 * trial, OURS)
        for name, ours in (("10 % slower", OURS * 11 // 10), ("the same", OURS)):
            (change,) = compare(run(3 * trial + len(name), ours), before)
            found[name][change.verdict] += 1
            print(f"trial {trial + 1} of {TRIALS}, {name}: {change}", flush=True)
    for name, verdicts in found.items():
        print(f"{name}: {dict(verdicts)}")
    same = found["the same"]
    right = found["10 % slower"]["regression"] == TRIALS
    return 0 if right and not same["regression"] + same["improvement"] else 1


if __name__ == "__main__":
    sys.exit(main())
