"""Which range of values occurs where: calibration of a fused graph on real inputs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

BYTE = torch.uint8


@dataclass(frozen=True)
class Scale:
    """What bytes stand for: ``(q - zero_point) * scale``, q uint8."""

    scale: float
    zero_point: int


def union(scales: Sequence[Scale]) -> Scale:
    """The scale whose range holds all of theirs."""
    least = min(-each.zero_point * each.scale for each in scales)
    most = max((255 - each.zero_point) * each.scale for each in scales)
    scale = (most - least) / 255
    return Scale(scale, min(max(round(-least / scale), 0), 255))


class Observers:
    """torchao's observers of a model's images, by the name of the node that gives them.

    Args:
        kind: ``"minmax"`` takes the extremes, ``"histogram"`` what loses least.

    Raises:
        ImportError: torchao is not installed.
    """

    def __init__(self, kind: str) -> None:
        try:
            from torchao.quantization import pt2e
        except ImportError as error:
            raise ImportError(
                "INT8 takes its observers from torchao: pip install 'cvperf[quant]'"
            ) from error
        kinds = {"minmax": pt2e.MinMaxObserver, "histogram": pt2e.HistogramObserver}
        self._make = functools.partial(
            kinds[kind], dtype=BYTE, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine
        )
        self._observers: dict[str, Any] = {}
        self.highest: dict[str, Tensor] = {}
        """[C]: the greatest value of each channel."""
        self.mean: dict[str, Tensor] = {}
        """[C]: the mean of each channel over the inputs."""
        self._counts: Counter[str] = Counter()

    def observe(self, name: str, image: Tensor) -> None:
        """Take down the values of an image."""
        if name not in self._observers:
            self._observers[name] = self._make()
        self._observers[name](image)
        highest = image.amax((0, 2, 3))
        self.highest[name] = torch.maximum(highest, self.highest.get(name, highest))
        mean = image.mean((0, 2, 3))
        self._counts[name] += 1
        self.mean[name] = torch.lerp(self.mean.get(name, mean), mean, 1 / self._counts[name])

    def scales(self) -> dict[str, Scale]:
        """What a byte of each image is to stand for."""
        found = {}
        for name, observer in self._observers.items():
            scale, zero_point = observer.calculate_qparams()
            found[name] = Scale(float(scale), int(zero_point))
        return found


class Calibration(fx.Interpreter):
    """Runs a fused graph in float, and lets every image in it be observed."""

    def __init__(self, graph: fx.GraphModule, observers: Observers) -> None:
        super().__init__(graph)
        self._observers = observers

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        is_image = isinstance(value, Tensor) and value.dim() == 4 and n.op != "get_attr"
        if is_image and value.dtype == torch.float32 and value.numel():
            self._observers.observe(n.name, value)
        return value
