"""Which range of values occurs where: calibration of a fused graph on real inputs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from cvperf.engine.passes.convolution import CONV2D
from cvperf.quant.ranges import RANGES

BYTE = torch.uint8
_ATEN = torch.ops.aten
LINEAR = _ATEN.linear.default
MAX_POOL, AVG_POOL, CAT = _ATEN.max_pool2d.default, _ATEN.avg_pool2d.default, _ATEN.cat.default
IMAGES = (CONV2D, MAX_POOL, AVG_POOL, CAT)
"""What works on images and may work on bytes."""


@dataclass(frozen=True)
class Scale:
    """What bytes stand for: ``(q - zero_point) * scale``, q uint8."""

    scale: float
    zero_point: int


def union(scales: Sequence[Scale]) -> Scale:
    """The scale whose range holds all of theirs."""
    least = min(-each.zero_point * each.scale for each in scales)
    most = max((255 - each.zero_point) * each.scale for each in scales)
    return spread(least, most)


def spread(least: float, most: float) -> Scale:
    """255 steps over a range that holds zero."""
    scale = max(most - least, 1e-9) / 255
    return Scale(scale, min(max(round(-least / scale), 0), 255))


class Sample:
    """Rows [C] that stand for all that were seen: each is as likely to be kept as any other."""

    VALUES, ROWS = 1 << 17, 1 << 10

    def __init__(self, channels: int) -> None:
        self._most = max(self.VALUES // max(channels, 1), self.ROWS)
        self._keys = torch.empty(0)  # random; the least are kept
        self.rows = torch.empty(0, channels)
        self._generator = torch.Generator().manual_seed(0)

    def __getstate__(self) -> dict[str, Any]:
        """Without the generator, which has no copy: one that was copied is no longer fed."""
        return {name: each for name, each in self.__dict__.items() if name != "_generator"}

    def add(self, rows: Tensor) -> None:
        """Rows [R, C]."""
        keys = torch.rand(len(rows), generator=self._generator)
        if len(self._keys) == self._most:
            better = (keys < self._keys.max()).nonzero().flatten()
            keys, rows = keys[better], rows[better]
        keys, rows = torch.cat([self._keys, keys]), torch.cat([self.rows, rows])
        self._keys, kept = keys.topk(min(self._most, len(keys)), largest=False)
        self.rows = rows[kept]


@dataclass
class Seen:
    """What occurred of one value: a sample of its rows, and [C] for each channel."""

    sample: Sample
    least: Tensor
    most: Tensor
    mean: Tensor
    """Over the inputs."""
    inputs: int = 0

    def add(self, rows: Tensor) -> None:
        self.sample.add(rows)
        self.least = torch.minimum(self.least, rows.amin(0))
        self.most = torch.maximum(self.most, rows.amax(0))
        self.inputs += 1
        self.mean = torch.lerp(self.mean, rows.mean(0), 1 / self.inputs)

    @property
    def furthest(self) -> Tensor:
        """How far from zero each channel goes."""
        return torch.maximum(self.most, -self.least)

    def scaled(self, factor: Tensor) -> Seen:
        """What would have occurred if each channel were multiplied by a factor [C] above 0."""
        sample = copy.copy(self.sample)
        sample.rows = sample.rows * factor
        least, most, mean = (each * factor for each in (self.least, self.most, self.mean))
        return Seen(sample, least, most, mean, self.inputs)


class Observers:
    """What a model's values are, by the name of the node that gives them.

    Args:
        kind: ``"minmax"`` takes the extremes, ``"histogram"`` what loses least in the mean square
            (both by torchao's observers), ``"percentile"`` leaves out a ten-thousandth at either
            end, ``"entropy"`` changes the distribution least.

    Raises:
        ImportError: torchao is not installed and its observers are asked for.
    """

    def __init__(self, kind: str) -> None:
        self._range = RANGES[kind]
        self._make = _torchao(kind) if kind in TORCHAO else None
        self._observers: dict[str, Any] = {}
        self.seen: dict[str, Seen] = {}

    def observe(self, name: str, rows: Tensor) -> None:
        """Take down the values of rows [R, C]: the pixels of an image, or what a linear reads."""
        if name not in self.seen:
            mean, least, most = rows.mean(0), rows.amin(0), rows.amax(0)
            self.seen[name] = Seen(Sample(rows.shape[1]), least, most, mean)
        self.seen[name].add(rows)
        if self._make is not None:
            self._observers.setdefault(name, self._make())(rows)

    def scales(self, factors: Mapping[str, Tensor]) -> dict[str, Scale]:
        """What a byte of each value is to stand for, some with channels scaled by factors [C]."""
        return {name: self._scale(name, factors.get(name)) for name in self.seen}

    def forget_samples(self) -> None:
        """What is no longer needed once ranges are chosen."""
        self._observers.clear()
        for each in self.seen.values():
            each.sample = Sample(0)

    def _scale(self, name: str, factor: Tensor | None) -> Scale:
        if factor is None and name in self._observers:
            scale, zero_point = self._observers[name].calculate_qparams()
            return Scale(float(scale), int(zero_point))
        seen = self.seen[name] if factor is None else self.seen[name].scaled(factor)
        return spread(
            *self._range(seen.sample.rows, float(seen.least.min()), float(seen.most.max()))
        )


TORCHAO = {"minmax": "MinMaxObserver", "histogram": "HistogramObserver"}
"""Its observers by our names."""


def _torchao(kind: str) -> Callable[[], Any]:
    try:
        from torchao.quantization import pt2e
    except ImportError as error:
        raise ImportError(
            f"Int8Config(observer={kind!r}) takes its observers from torchao: pip install "
            "'cvperf[quant]', or ask for 'percentile' or 'entropy'"
        ) from error
    return functools.partial(
        getattr(pt2e, TORCHAO[kind]),
        dtype=BYTE,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
    )


class Calibration(fx.Interpreter):
    """Runs a fused graph in float, and lets be observed what layers and pools read and give."""

    def __init__(self, graph: fx.GraphModule, observers: Observers) -> None:
        super().__init__(graph)
        self._observers = observers

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.dtype == torch.float32 and n.op != "get_attr":
            axis = channel_axis(n)
            if axis is not None and value.numel():
                self._observers.observe(n.name, value.movedim(axis, -1).flatten(0, -2))
        return value


def channel_axis(node: fx.Node) -> int | None:
    """Along which a value's channels lie; None if no layer is concerned with it."""
    if any(user.target == LINEAR for user in node.users):
        return -1
    concerned = node.target in IMAGES or any(user.target in IMAGES for user in node.users)
    value = node.meta.get("val")
    return 1 if concerned and isinstance(value, Tensor) and value.dim() == 4 else None
