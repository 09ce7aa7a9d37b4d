"""torchvision's detectors on a photo, float32 and INT8, against torch eager in both layouts.

``python -m cvperf.benchmarks.detectors`` optimises each as a whole, and on INT8 Mask R-CNN's
backbone alone too. Weights are random, so that no dataset can judge. float32 is held to eager's
boxes, scores and masks. INT8 makes other random boxes come first, and is held to the features of
the backbone: how far their cosine with eager's is from 1, beside how far it is where torch rounds
the same convolutions to 8 bits. A random network is far more sensitive than a trained one.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import cvperf
from cvperf.bench.contender import Contender
from cvperf.bench.peers.torch import inference
from cvperf.bench.problems.model import settle_batch_norm
from cvperf.bench.report.paired import Ratio, ratio
from cvperf.bench.report.text import with_interval
from cvperf.bench.timing import Plan, Timing, measure
from cvperf.benchmarks import zoo_detectors
from cvperf.benchmarks.rounding import rounded
from cvperf.benchmarks.zoo import Entry
from cvperf.benchmarks.zoo_measure import CALIBRATION, IMAGE
from cvperf.dropin.optimize import OptimizedModel

LEAST_SHARE = 0.95
"""Of eager's boxes, that float32 must have too: two of equal score may come in either order."""
LEAST_MASKS = 0.9
"""Of the masks of such boxes: one whose edge is a pixel's is pasted a pixel further."""
MOST_LOSS = 2.0
"""Of INT8's loss at each level of the features, over that of torch's rounding. That rounds each
input by its own range, ours by that of other photos; and ours keeps sums on bytes too."""


@dataclass(frozen=True)
class Detector:
    """One of torchvision, and the square image that it computes on.

    Attributes:
        name: as torchvision.models has it.
        side: height and width in pixels.
        frozen: whether torchvision freezes its batch norms once they are trained.
    """

    name: str
    side: int
    frozen: bool = False


DETECTORS = (
    Detector("maskrcnn_resnet50_fpn", 800, frozen=True),
    Detector("retinanet_resnet50_fpn", 800, frozen=True),
    Detector("ssd300_vgg16", 300),
    Detector("ssdlite320_mobilenet_v3_large", 320),
)


@dataclass(frozen=True)
class Way:
    """How a detector is optimised: for what number type, and which of its modules."""

    title: str
    int8: bool = False
    filter_fn: Callable[[nn.Module, str], bool] | None = None


def in_backbone(module: nn.Module, name: str) -> bool:
    """The ``filter_fn`` that takes the backbone, feature pyramid included, and nothing else."""
    return name.startswith("backbone")


FLOAT32, INT8 = Way("float32"), Way("INT8", int8=True)
INT8_BACKBONE = Way("INT8, backbone alone", int8=True, filter_fn=in_backbone)


def ways(detector: Detector) -> tuple[Way, ...]:
    """All ways in which a detector is raced."""
    whole = (FLOAT32, INT8)
    return (*whole, INT8_BACKBONE) if detector.name.startswith("maskrcnn") else whole


@dataclass(frozen=True)
class Row:
    """One way against eager, sample i of all from the same round."""

    detector: str
    way: str
    eager: Timing
    """torch on the model as torchvision makes it."""
    channels_last: Timing
    """torch on a copy whose weights are channels-last, and so all images."""
    ours: Timing
    check: str
    """How its answer was held to account, and what came out."""
    right: bool

    def ratio(self, eager: Timing) -> Ratio:
        """Eager's time, in one layout or the other, over ours."""
        return ratio(eager.samples_ms, self.ours.samples_ms)


def build(detector: Detector, photos: Sequence[Tensor]) -> nn.Module:
    """The detector in evaluation mode: random weights, batch norms with the photos' statistics.

    Args:
        photos: at least two, [3, side, side]: SSDLite's last features are a single pixel of each.
    """
    torch.manual_seed(0)
    model = Entry("torchvision.detection", detector.name).build()
    transform: Any = model.transform
    if transform.fixed_size is None:
        transform.min_size, transform.max_size = (detector.side,), detector.side
    settle_batch_norm(_Norms(model), transform(list(photos))[0].tensors)
    zoo_detectors.spread_scores(model)
    if detector.frozen:
        _freeze(model)
    return model.eval()


class _Norms(nn.Module):
    """All of a detector that has batch norms: the backbone, and a single-shot detector's head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = model.backbone
        self.head: Any = getattr(model, "head", None)

    def forward(self, images: Tensor) -> None:
        features = self.backbone(images)
        if self.head is not None:
            self.head(list(features.values()))


def _freeze(module: nn.Module) -> None:
    """Make batch norms what ``weights="DEFAULT"`` makes them."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = FrozenBatchNorm2d(child.num_features, child.eps)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _freeze(child)


def race(detector: Detector, chosen: Sequence[Way], rounds: int) -> list[Row]:
    """A row for each way. Contenders take turns, in an order drawn anew in each round.

    Args:
        rounds: samples of each; 6 are the fewest that give the ratio an interval.
    """
    image, *photos = (
        zoo_detectors.square(name, detector.side) for name in (IMAGE, *CALIBRATION[:2])
    )
    model = build(detector, photos)
    calibration = [([photo],) for photo in photos]
    fast = {way: _optimised(model, way, calibration) for way in chosen}
    eager = (model, copy.deepcopy(model).to(memory_format=torch.channels_last))
    with inference():
        judge = _Judge(model, image)
        found = {way: judge.of(way, fast[way]) for way in chosen}
    calls = [_call(each, image) for each in (*eager, *fast.values())]
    plan = Plan(math.inf, sample_s=0.0, min_samples=rounds, max_samples=rounds)
    as_it_is, channels_last, *ours = measure(calls, plan)
    return [
        Row(detector.name, way.title, as_it_is, channels_last, timing, *found[way])
        for way, timing in zip(chosen, ours, strict=True)
    ]


def _optimised(model: nn.Module, way: Way, calibration: Sequence[Any]) -> OptimizedModel:
    config = cvperf.Int8Config(calibration=calibration) if way.int8 else None
    return cvperf.optimize(model, config, filter_fn=way.filter_fn)


def _call(model: nn.Module, image: Tensor) -> Contender:
    return Contender(lambda: model([image]), context=inference)


class _Judge:
    """Holds the answers of each way to torch's, which are computed once."""

    def __init__(self, model: Any, image: Tensor) -> None:
        self._model = model
        self._image = image

    def of(self, way: Way, fast: OptimizedModel) -> tuple[str, bool]:
        """What is said of the answers, and whether they are right."""
        answer = fast([self._image])  # only now is it in parts
        if not way.int8:
            return _agreed(zoo_detectors.agreement(answer[0], self._model([self._image])[0]))
        backbone = part(fast, self._model.backbone)
        return judged(cosines(backbone(self._images), self._features), self._by_torch)

    @cached_property
    def _images(self) -> Tensor:
        images: Tensor = self._model.transform([self._image])[0].tensors
        return images

    @cached_property
    def _features(self) -> dict[str, Tensor]:
        features: dict[str, Tensor] = self._model.backbone(self._images)
        return features

    @cached_property
    def _by_torch(self) -> list[float]:
        return cosines(rounded(self._model.backbone)(self._images), self._features)


def judged(ours: Sequence[float], by_torch: Sequence[float]) -> tuple[str, bool]:
    """Of the cosines of each level of features: what is said, and whether ours are right."""
    loss = max((1 - our) / max(1 - other, 1e-6) for our, other in zip(ours, by_torch, strict=True))
    said = f"cosine of the features {min(ours):.3f} to {max(ours):.3f}"
    said += f", by torch's rounding {min(by_torch):.3f} to {max(by_torch):.3f}"
    return said, loss <= MOST_LOSS


def _agreed(found: dict[str, Any]) -> tuple[str, bool]:
    total, same = found["torch_boxes"], found["same_boxes"]
    said = f"{same} of {total} boxes"
    if not same:
        return said, False
    said += f" within {found['largest_px']:.1e} px, scores within {found['largest_score']:.1e}"
    if "same_masks" in found:
        said += f", {found['same_masks']} masks"
    masks = found.get("same_masks", same)
    return said, same >= LEAST_SHARE * total and masks >= LEAST_MASKS * same


def part(fast: OptimizedModel, original: Any) -> OptimizedModel:
    """What a module of the model was made into, of an optimised model that was split.

    Raises:
        LookupError: it is no part by itself.
    """
    for module in fast.modules():
        if isinstance(module, OptimizedModel) and module.original is original:
            return module
    raise LookupError(f"no part of {type(fast.original).__name__} was made of it")


def cosines(found: dict[str, Tensor], exact: dict[str, Tensor]) -> list[float]:
    """Of each level of features."""
    return [
        float(F.cosine_similarity(found[level].flatten(), features.flatten(), dim=0))
        for level, features in exact.items()
    ]


def table(rows: Sequence[Row]) -> Table:
    """Medians with the 20th and 80th percentile, and eager over ours with its 95 % interval."""
    title = f"torch eager / cvperf, {torch.get_num_threads()} threads, weights random"
    of = ("detector", "way", "torch ms", "channels-last ms", "cvperf ms")
    found = Table(*of, "torch / cvperf", "channels-last / cvperf", "answers", title=title)
    found.columns[0].overflow = "fold"  # a name is never cut
    for row in rows:
        check = row.check if row.right else f"[red]WRONG[/red] {row.check}"
        eager = (row.eager, row.channels_last)
        times = [spread(each) for each in (*eager, row.ours)]
        ratios = [with_interval(row.ratio(each)) for each in eager]
        found.add_row(row.detector, row.way, *times, *ratios, check)
    return found


def spread(timing: Timing) -> str:
    """Its median, and the 20th and 80th percentile, in milliseconds."""
    low, high = timing.percentile(20), timing.percentile(80)
    return f"{timing.median:.1f} ({low:.1f} to {high:.1f})"


def select(patterns: Sequence[str]) -> list[Detector]:
    """Those whose name matches a pattern; all for none.

    Raises:
        ValueError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(each.name, pattern) for each in DETECTORS):
            known = ", ".join(each.name for each in DETECTORS)
            raise ValueError(f"no detector is called {pattern!r}; there are {known}")
    return [
        each
        for each in DETECTORS
        if not patterns or any(fnmatchcase(each.name, pattern) for pattern in patterns)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="name or pattern; repeatable")
    parser.add_argument("--rounds", type=int, default=11, help="samples of each contender")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        chosen = select(options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    torch.set_num_threads(options.threads)
    console = Console()
    rows: list[Row] = []
    for detector in chosen:
        with console.status(detector.name):
            rows += race(detector, ways(detector), options.rounds)
    console.print(table(rows))
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
