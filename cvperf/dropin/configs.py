"""What :func:`cvperf.optimize` is asked to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch

from cvperf.errors import ArgumentError, describe
from cvperf.quant.ranges import RANGES


@dataclass(frozen=True)
class FusionConfig:
    """Float kernels in the model's own dtype.

    Attributes:
        plans: how many sizes of input to keep ready; the longest unused goes first.
    """

    plans: int = 16

    def __post_init__(self) -> None:
        if self.plans < 1:
            raise ArgumentError(f"plans must be at least 1, got {self.plans}")

    def takes(self, name: str) -> bool:
        """Whether the layer of this name is to be treated."""
        return True


@dataclass(frozen=True)
class Bf16Config(FusionConfig):
    """float32 models computed in bfloat16: half the memory, twice the rate where the processor has
    the instructions (AVX512_BF16).

    Batch norm is folded in float64 before weights are rounded; sums are float32. Inputs and answers
    stay float32.
    """


@dataclass(frozen=True)
class Int8Config(FusionConfig):
    """Layers on 8-bit integers, ranges chosen by what occurs in a few real inputs.

    Activations are uint8 with one scale and zero point an image, weights int8 with one scale a
    filter. float32 models; what is neither a convolution nor fully connected, and layers that are
    left out, stay float32.

    Attributes:
        calibration: inputs to run, each a tensor or a tuple of the call's arguments; a hundred
            photos of the kind that will come are plenty. Read once, by ``optimize``.
        observer: ``"minmax"`` takes the extremes; ``"histogram"`` the range that loses least in
            the mean square (torchao's observers both), ``"percentile"`` all but a ten-thousandth of
            the values at either end, ``"entropy"`` the range that changes the distribution least.
        per_channel: one scale of a weight for each filter; False for one a layer, which is what
            some other runtimes have, and less accurate.
        skip: names of layers to leave in float, with ``*`` and ``?``: ``("features.0", "head.*")``.
        weight_bits: 8; 7: weights of -63 to 63, less accurate, and faster on processors with AVX2
            and no dot product of bytes (``cvperf env`` lists avx_vnni or avx512_vnni if there is
            one); or 4: -7 to 7, which the same kernels read as int8, so that they cost accuracy
            and save nothing here; for models that are to run elsewhere, and best after training
            (``cvperf.prepare_qat``). What was trained keeps the bits it has.
    """

    calibration: Iterable[Any] = ()
    observer: str = "minmax"
    per_channel: bool = True
    skip: tuple[str, ...] = ()
    weight_bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.observer not in RANGES:
            names = ", ".join(map(repr, RANGES))
            raise ArgumentError(f"observer must be one of {names}; got {self.observer!r}")
        _check_skip(self.skip)
        if self.weight_bits not in (4, 7, 8):
            raise ArgumentError(f"weight_bits must be 4, 7 or 8, got {self.weight_bits!r}")

    @property
    def most(self) -> int:
        """The greatest integer of a weight; the least is its negative."""
        return (1 << (self.weight_bits - 1)) - 1

    def without_inputs(self) -> Int8Config:
        """The same, to be kept: the inputs are read once."""
        return replace(self, calibration=())

    def takes(self, name: str) -> bool:
        """Whether the layer of this name is to be on integers."""
        return not any(fnmatchcase(name, pattern) for pattern in self.skip)


@dataclass(frozen=True)
class WeightOnlyConfig(FusionConfig):
    """Fully connected layers whose weights alone are 8- or 4-bit integers; the rest is float32.

    It needs no inputs. For large layers that are called with few rows, where reading the weight is
    all the time there is; convolutions stay float. A layer that does not fit (its inputs
    do not split into the groups, another dtype) stays as it is.

    Attributes:
        bits: 8, one scale a row of the weight; or 4, of -7 to 7, one a group of a row.
        group_size: neighbours in a row that share a scale, of 4 bits: 32, 64 or 128.
        dtype: in which these layers multiply and answer: bfloat16; or float32, for which torch's
            kernels are slower than a layer in float.
        skip: names of layers to leave in float, with ``*`` and ``?``.
    """

    bits: int = 8
    group_size: int = 64
    dtype: torch.dtype = torch.bfloat16
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ArgumentError(f"bits must be 4 or 8, got {self.bits!r}")
        if self.dtype not in (torch.bfloat16, torch.float32):
            raise ArgumentError(f"dtype must be bfloat16 or float32, got {self.dtype}")
        if self.group_size not in (32, 64, 128):
            raise ArgumentError(f"group_size must be 32, 64 or 128, got {self.group_size!r}")
        _check_skip(self.skip)

    def takes(self, name: str) -> bool:
        """Whether the layer of this name is to have a narrow weight."""
        return not any(fnmatchcase(name, pattern) for pattern in self.skip)


def _check_skip(skip: Any) -> None:
    if isinstance(skip, str) or not all(isinstance(each, str) for each in skip):
        raise TypeError(f"skip must be a tuple of names, got {describe(skip)}")
