"""Which configuration a kernel runs with: shipped for each architecture, or measured here.

``CVPERF_AUTOTUNE`` chooses: 0 (as if unset) takes what ships; 1 measures the few that the
analytical model ranks first at the first call of each kind; ``full`` measures all. What was
measured is kept in the file of ``cvperf/backends/tuning.py``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from cvperf.backends import tuning
from cvperf.backends.gpu.model import Architecture, family
from cvperf.errors import UnsupportedError

MEASURED = 4
"""Candidates that ``CVPERF_AUTOTUNE=1`` measures."""

_forced: list[str | Config] = []


@dataclass(frozen=True)
class Config:
    """How a kernel is compiled: its tile sizes, warps and stages.

    They are constexprs and options of a kernel in Triton, and template arguments of one in CUDA.
    """

    tile: tuple[tuple[str, Any], ...]
    num_warps: int
    num_stages: int

    @classmethod
    def of(cls, num_warps: int, num_stages: int, **tile: Any) -> Config:
        """``Config.of(8, 3, BM=128, BN=256, BK=128)``."""
        return cls(tuple(tile.items()), num_warps, num_stages)

    def __getitem__(self, name: str) -> Any:
        return dict(self.tile)[name]

    def only(self, *names: str) -> Config:
        """The same warps and stages for a kernel that takes fewer of the tile sizes."""
        return Config(
            tuple((name, value) for name, value in self.tile if name in names),
            self.num_warps,
            self.num_stages,
        )

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """The keywords of a launch in Triton."""
        return {**dict(self.tile), "num_warps": self.num_warps, "num_stages": self.num_stages}

    @functools.cached_property
    def template(self) -> str:
        """The template arguments in CUDA: tile sizes in their order, warps, stages; "128, 8, 3"."""
        sizes = [value for _, value in self.tile]
        return ", ".join(str(value) for value in (*sizes, self.num_warps, self.num_stages))

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={value}" for name, value in self.tile)
        return f"{sizes} warps={self.num_warps} stages={self.num_stages}"


@dataclass(frozen=True)
class Space:
    """A kernel's configurations.

    Attributes:
        kernel: its name.
        shipped: architecture (80, 90 or 100) -> kind of shape -> the configuration that ships.
        shared_bytes: shared memory of a configuration; those that do not fit are left out.
        more: architecture -> further candidates for measuring.
    """

    kernel: str
    shipped: Mapping[int, Mapping[str, Config]]
    shared_bytes: Callable[[Config], int]
    more: Mapping[int, tuple[Config, ...]]

    def candidates(self, machine: Architecture) -> tuple[Config, ...]:
        """Everything that fits this machine, shipped ones first."""
        known = family(machine.capability)
        every = dict.fromkeys((*self.shipped[known].values(), *self.more.get(known, ())))
        return tuple(one for one in every if self.shared_bytes(one) <= machine.shared_bytes)

    def default(self, machine: Architecture, kind: str) -> Config:
        """What ships for this kind of shape; on a smaller GPU, the first that fits.

        Raises:
            UnsupportedError: none fits.
        """
        config = self.shipped[family(machine.capability)][kind]
        if self.shared_bytes(config) <= machine.shared_bytes:
            return config
        fitting = self.candidates(machine)
        if not fitting:
            raise UnsupportedError(
                f"{self.kernel}: no configuration fits {machine.shared_bytes} bytes of shared "
                f"memory (sm_{machine.capability}); move the call to the CPU with .cpu()"
            )
        return fitting[0]


@dataclass(frozen=True)
class Backend:
    """How a backend's configurations are measured.

    Attributes:
        name: its name in the registry.
        runs: whether a launch would run on a GPU now, and not be handed to someone else.
        compiler: name and version of its compiler, for which a measurement holds.
        too_large: the errors of a launch that asks for more than the GPU has.
    """

    name: str
    runs: Callable[[], bool]
    compiler: Callable[[], str]
    too_large: Callable[[], tuple[type[Exception], ...]]


def config_for(
    backend: Backend,
    space: Space,
    kind: str,
    call: str,
    machine: Architecture,
    predict: Callable[[Config], float],
    run: Callable[[Config], Any],
) -> Config:
    """The configuration for one call.

    Args:
        backend: the kernel's.
        space: the kernel's.
        kind: of shape, a key of ``space.shipped``.
        call: names the calls that share a measurement: rounded shape, dtypes, layout.
        machine: the GPU.
        predict: seconds that a configuration should take, by the analytical model.
        run: runs the call with a configuration; free of side effects.
    """
    if _forced:
        one = _forced[-1]
        return one if isinstance(one, Config) else space.default(machine, one)
    if not tuning.enabled() or not _can_measure(backend):
        return space.default(machine, kind)
    ranked = sorted(space.candidates(machine), key=predict)
    measured = ranked if tuning.thorough() else ranked[:MEASURED]
    choice = tuning.choose(
        f"{backend.name} {space.kernel} {call}",
        {str(one): functools.partial(run, one) for one in measured},
        on=_machine(torch.cuda.current_device(), backend.compiler()),
        seconds=functools.partial(_gpu_seconds, backend.too_large()),
    )
    return next(one for one in measured if str(one) == choice.name)


@contextmanager
def forcing(one: str | Config) -> Iterator[None]:
    """Calls within run with this configuration, or what ships for this kind of shape."""
    _forced.append(one)
    try:
        yield
    finally:
        _forced.pop()


def bucket(*sizes: int) -> str:
    """Sizes rounded up to a power of two: calls of one bucket share a measurement."""
    return "x".join(str(1 << max(size - 1, 0).bit_length()) for size in sizes)


def _can_measure(backend: Backend) -> bool:
    return backend.runs() and not torch.cuda.is_current_stream_capturing()


@functools.cache
def _machine(device: int, compiler: str) -> str:
    """What a measurement holds for."""
    return f"{torch.cuda.get_device_name(device)}, {compiler}, cvperf {version('cvperf')}"


def _gpu_seconds(
    too_large: tuple[type[Exception], ...], run: Callable[[], Any], times: int
) -> float:
    """Seconds of one of several runs, on the GPU's own clock."""
    try:
        run()  # compiles, and leaves the GPU busy while the next are enqueued
    except too_large:  # more shared memory or registers than the space's estimate
        return math.inf
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / times
