"""What training on 8 to 1,024 GPUs should take: the page docs/scaling.md, and its one measurement.

``python -m cvperf.benchmarks.scaling`` writes the page; ``--measure`` first times all-reduces of
two gloo processes of this machine into benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import torch
import torch.distributed as dist

from cvperf import files
from cvperf.backends.processor import cpu_name
from cvperf.train.distributed import collectives, launch
from cvperf.train.distributed.collectives import Cluster, Link
from cvperf.train.distributed.compression import Compression
from cvperf.train.distributed.scaling import Gpu, Shapes

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "scaling.json"
PAGE = ROOT.parent / "docs" / "scaling.md"

GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)

A100 = Gpu(bandwidth=2.039e12)
NVSWITCH = Link(latency=3.4e-6, bandwidth=235e9)
CLUSTERS = {
    "200 Gb/s InfiniBand for each GPU": Cluster(8, NVSWITCH, Link(9.6e-6, 25e9)),
    "one 25 Gb/s Ethernet card for each node": Cluster(8, NVSWITCH, Link(30e-6, 25e9 / 8 / 8)),
}
COMPRESSIONS = {
    "float32": Compression(),
    "fp16": Compression("fp16"),
    "PowerSGD, rank 1": Compression("powersgd", rank=1),
    "PowerSGD, rank 4": Compression("powersgd", rank=4),
}


@dataclass(frozen=True)
class Model:
    """A network to plan for: builder in torchvision, images of a GPU, images a second of one."""

    builder: str
    batch: int
    images_per_second: float
    source: str

    @property
    def compute(self) -> float:
        """Seconds of a step on one GPU."""
        return self.batch / self.images_per_second

    def shapes(self) -> Shapes:
        """Of the parameters, all trained."""
        import torchvision

        at = torchvision.models
        build = getattr(at, self.builder, None) or getattr(at.detection, self.builder)
        detects = build.__module__.startswith("torchvision.models.detection")
        with torch.device("meta"):
            model = build(weights=None, **({"weights_backbone": None} if detects else {}))
        return [tuple(parameter.shape) for parameter in model.parameters()]


MODELS = {
    "ResNet-50": Model(
        "resnet50", 256, 2470, "NVIDIA DeepLearningExamples, ResNet50 v1.5, one A100 80GB, AMP"
    ),
    "MobileNetV2": Model(
        "mobilenet_v2",
        256,
        2470 * 2313.1 / 1218.01,
        "ResNet-50's, times MobileNetV2 over ResNet-50 in timm's training benchmark of an RTX 3090",
    ),
    "Mask R-CNN": Model(
        "maskrcnn_resnet50_fpn",
        4,
        13.14 * 2470 / 1156,
        "NVIDIA DeepLearningExamples, one V100 32GB in fp16, times A100 over V100 for ResNet-50",
    ),
}

ALGORITHMS: Mapping[str, Callable[[Cluster, int, float], float]] = {
    "ring": collectives.flat_ring,
    "rings inside and between nodes": lambda c, n, s: collectives.hierarchical(c, n, s, "ring"),
    "rings inside, trees between nodes": lambda c, n, s: collectives.hierarchical(c, n, s, "tree"),
    "one parameter server": lambda c, n, s: collectives.parameter_server(c, n, s),
    "a parameter server for each node": lambda c, n, s: collectives.parameter_server(
        c, n, s, c.nodes(n)
    ),
}
ALL_REDUCES = list(ALGORITHMS)[:3]


def fastest(cluster: Cluster, gpus: int) -> Callable[[float], float]:
    """Seconds of an all-reduce by whichever algorithm is fastest for the size, as NCCL picks."""
    return lambda size: min(ALGORITHMS[name](cluster, gpus, size) for name in ALL_REDUCES)


def time_all_reduces(sizes: Sequence[int], repeats: int) -> list[float]:
    """Seconds of an all-reduce of each size in bytes, in a process of a group: the 10th percentile,
    as the two processes have to share two processors with the rest of the machine."""
    found = []
    for size in sizes:
        tensor = torch.zeros(size // 4)
        times = []
        for _ in range(repeats + 2):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(time.perf_counter() - start)
        found.append(quantiles(times[2:], n=10)[0])
    return found


def measure(sizes: Sequence[int], repeats: int) -> dict[str, object]:
    """Time all-reduces of two processes; of each size the slower process's."""
    both = launch.run(time_all_reduces, 2, list(sizes), repeats, timeout_s=120)
    seconds = [max(times) for times in zip(*both, strict=True)]
    return {
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": dict(zip(map(str, sizes), seconds, strict=True)),
    }


def fit(seconds: Mapping[int, float]) -> Link:
    """The link whose ring of two is nearest to measured all-reduces, by relative error squared."""
    sizes = torch.tensor(list(seconds), dtype=torch.float64)
    times = torch.tensor(list(seconds.values()), dtype=torch.float64)
    terms = torch.stack([2 / times, sizes / times], dim=1)  # ring(link, 2, S) = 2 latency + S / bw
    latency, inverse = torch.linalg.lstsq(terms, torch.ones_like(times)[:, None]).solution[:, 0]
    return Link(float(latency), 1 / float(inverse))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="time all-reduces of this machine")
    arguments = parser.parse_args()
    from cvperf.benchmarks import scaling_page

    if arguments.measure:
        sizes = [4**i * 1024 for i in range(8)] + [2 * 4**i * 1024 for i in range(7)]
        files.replace(RESULTS, json.dumps(measure(sorted(sizes), 40), indent=1) + "\n")
    files.replace(PAGE, scaling_page.render(RESULTS))
    print(f"{PAGE} is written")


if __name__ == "__main__":
    main()
