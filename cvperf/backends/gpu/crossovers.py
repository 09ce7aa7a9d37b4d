"""What GPUs have measured: one line of ``crossovers.jsonl`` for each case and GPU.

The file is a projection of the ledger in ``benchmarks/results``, made by
``benchmarks/gpu_crossovers.py``; it is empty until a GPU has run the suite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("crossovers.jsonl")


@dataclass(frozen=True)
class Crossover:
    """One case on one GPU.

    Attributes:
        gpu: its name, as ``"NVIDIA H100 80GB HBM3"``.
        capability: 90 for sm_90.
        op: cvperf's op.
        dtype: of the benchmark's case.
        layout: that the case gave our kernels: ``"contiguous"`` (also where there is no choice) or
            ``"channels_last"``.
        kind: of convolution, see ``calls.kind_of_convolution``; of other ops ``""``.
        case: its name.
        size: ``Measurement.size``.
        ms: who -> milliseconds that a call keeps the GPU.
        host_us: who -> microseconds that it keeps the calling thread.
        wrong: who -> why its answer cannot be trusted: beyond the tolerance, or it raised.
    """

    gpu: str
    capability: int
    op: str
    dtype: str
    layout: str
    kind: str
    case: str
    size: float
    ms: Mapping[str, float] = field(default_factory=dict)
    host_us: Mapping[str, float] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)

    def us(self, who: str, more_host_us: float = 0.0) -> float:
        """Microseconds from one call to the next: the GPU's, or the thread's if that is longer."""
        return max(1e3 * self.ms[who], self.host_us[who] + more_host_us)


def read(path: Path) -> tuple[Crossover, ...]:
    """Every line of a file."""
    return tuple(Crossover(**json.loads(line)) for line in path.read_text().splitlines())
