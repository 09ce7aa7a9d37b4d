"""Where a call's time goes, by torch op."""

from __future__ import annotations

from collections import defaultdict

import torch

from cvperf.bench.contender import Contender
from cvperf.bench.results import Measurement

_SHOWN = 8
_NAMES = {"mkldnn_convolution": "convolution", "conv2d": "convolution"}


def shares(row: Measurement, contender: Contender) -> dict[str, dict[str, float]]:
    """``{"share": {op: percent}}`` of one call, largest first, the small ones together.

    Empty for a peer whose graph runs outside torch's dispatcher, where no op can be told apart.
    """
    if not (row.ours or row.contender == "torch"):
        return {}
    activities = [torch.profiler.ProfilerActivity.CPU]
    if row.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with contender.context(), torch.profiler.profile(activities=activities) as profiler:
        contender.run()
    spent: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        name = event.key.rpartition("::")[2]
        own = event.self_device_time_total if row.device == "cuda" else event.self_cpu_time_total
        spent[_NAMES.get(name, name)] += own
    total = sum(spent.values())
    if not total:
        return {}
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    largest = {name: 100 * own / total for name, own in ranked[:_SHOWN]}
    rest = 100 - sum(largest.values())
    return {"share": {**largest, "other": rest} if rest > 0.05 else largest}
