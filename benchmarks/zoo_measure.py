"""One model: what of it our kernels run, how far its answers are from float64, and how fast.

``python -m cvperf.benchmarks.zoo_measure LIBRARY NAME`` prints the row as the last line. It is a
process of its own, so that a crash is one row.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import cvperf
from cvperf import _C
from cvperf.bench.contender import Contender
from cvperf.bench.peers.torch import inference
from cvperf.bench.timing import Plan, measure
from cvperf.benchmarks.zoo import Entry
from cvperf.benchmarks.zoo_weights import enliven
from cvperf.data.photos import photo
from cvperf.dropin.optimize import ModelExplanation

IMAGE, OTHER = "pagoda", "dahlia"
CALIBRATION = ("dahlia", "astronaut", "cat", "coffee")
_MOST_WORDS = 200
"""Letters of torch.export's reason; some are thousands."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def row(
    entry: Entry, seconds: float = 1.0, int8: bool = True, only_times: bool = False
) -> dict[str, Any]:
    """What the table holds about a model, JSON's types only.

    Args:
        entry: a model that answers one batch of images by tensors.
        seconds: time of each contender.
        int8: whether INT8 is tried too.
        only_times: leave answers and coverage out, which an earlier row has.
    """
    torch.manual_seed(0)
    model = entry.build()
    side = entry.side(model)
    enliven(model, images(CALIBRATION, side))
    image = images((IMAGE,), side)
    start = time.perf_counter()
    fast = cvperf.optimize(model, example_inputs=image)
    found: dict[str, Any] = {"family": entry.family, "side": side}
    found["optimize_s"] = time.perf_counter() - start
    runs: dict[str, Callable[[], Any]] = {"cvperf": lambda: fast(image)}
    if not only_times:
        found |= coverage(fast.explain())
    expected = None if only_times else _expected(model, image, images((OTHER,), side), found)
    eager = copy.deepcopy(model)
    for each in eager.parameters():
        if each.dim() == 4:  # Module.to() refuses a model that has filters of 3 dimensions as well
            each.data = each.data.contiguous(memory_format=torch.channels_last)
    runs["torch"] = lambda: eager(image)
    if int8:
        _add_int8(model, side, image, expected, found, runs)
    if expected is not None:
        with inference():
            for name in ("cvperf", "torch"):
                found[f"{name}_error"] = error(runs[name](), expected)
    return found | times(runs, seconds)


def images(names: tuple[str, ...], side: int) -> Tensor:
    """The photos in the middle, [N, 3, side, side], normalised as for ImageNet, channels-last."""
    from torchvision.transforms import functional

    made = []
    for name in names:
        small = functional.resize(photo(name), [side])
        cropped = functional.to_tensor(functional.center_crop(small, [side]))
        made.append(functional.normalize(cropped, list(MEAN), list(STD)))
    return torch.stack(made).contiguous(memory_format=torch.channels_last)


def coverage(explanation: ModelExplanation) -> dict[str, Any]:
    """Of all parts: the share of the products and sums on our kernels, and what torch runs."""
    parts = [explanation]
    for part in parts:
        parts += part.parts
    plans = [plan for part in parts for plan in part.plans]
    ours = sum(plan.work for plan in plans)
    total = ours + sum(plan.torch_work for plan in plans)
    left: Counter[str] = Counter()
    for plan in plans:
        left.update(plan.torch)
    return {
        "gflop": total / 1e9,
        "covered": ours / total if total else 0.0,
        "torch_steps": dict(left.most_common()),
        "split": explanation.why[:_MOST_WORDS],
    }


def _expected(
    model: nn.Module, image: Tensor, other: Tensor, found: dict[str, Any]
) -> list[Tensor]:
    """The answer in float64; whether another photo has another one goes into the row."""
    exact = copy.deepcopy(model).double()
    with inference():
        expected, elsewhere = tensors(exact(image.double())), tensors(model(other))
    scale = float(expected[0].abs().max())
    found["differs"] = float((expected[0] - elsewhere[0]).abs().max()) / scale if scale else 0.0
    return expected


def tensors(answer: Any) -> list[Tensor]:
    """All tensors of an answer."""
    return [leaf for leaf in pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]


def error(answer: Any, expected: list[Tensor]) -> float:
    """The largest difference over the largest value, of the worst tensor; infinity for a NaN."""
    worst = 0.0
    for ours, exact in zip(tensors(answer), expected, strict=True):
        scale = float(exact.abs().max()) or 1.0
        apart = float((ours.double() - exact).abs().max()) / scale
        worst = max(worst, apart if apart == apart else float("inf"))
    return worst


def _add_int8(
    model: nn.Module,
    side: int,
    image: Tensor,
    expected: list[Tensor] | None,
    found: dict[str, Any],
    runs: dict[str, Callable[[], Any]],
) -> None:
    calibration = [images((name,), side) for name in CALIBRATION]
    start = time.perf_counter()
    fast = cvperf.optimize(model, cvperf.Int8Config(calibration=calibration), image)
    found["int8_optimize_s"] = time.perf_counter() - start
    runs["int8"] = lambda: fast(image)
    if expected is None:
        return
    kinds: Counter[str] = Counter()
    parts = [fast.explain()]
    for part in parts:
        parts += part.parts
        for plan in part.plans:
            kinds.update(plan.ours)
    found["int8_steps"] = sum(count for name, count in kinds.items() if "int8" in name)
    with inference():
        answer = tensors(fast(image))
    ours, exact = (
        torch.cat([each.double().flatten() for each in many]) for many in (answer, expected)
    )
    found["int8_cosine"] = float(nn.functional.cosine_similarity(ours, exact, dim=0))


def times(runs: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """Medians in milliseconds; contenders take turns. Nothing for no seconds."""
    if not seconds:
        return {}
    contenders = [Contender(run, context=inference) for run in runs.values()]
    plan = Plan(seconds=seconds, min_samples=7, max_samples=60, precision=0.01)
    timings = measure(contenders, plan)
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "isa": _C.isa(),
    }
    for name, timing in zip(runs, timings, strict=True):
        found[f"{name}_ms"] = timing.median
        found[f"{name}_p20_ms"] = timing.percentile(20)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-int8", dest="int8", action="store_false")
    parser.add_argument("--only-times", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    entry = Entry(options.library, options.name)
    if entry.library == "torchvision.detection":
        from cvperf.benchmarks import zoo_detectors

        found = zoo_detectors.row(entry, options.seconds, options.only_times)
    else:
        found = row(entry, options.seconds, options.int8, options.only_times)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
