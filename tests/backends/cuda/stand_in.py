"""A driver that runs nothing and tells what it was asked for, and tensors on GPUs that are not."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch

from cvperf.backends.cuda import launch
from cvperf.backends.cuda.driver import Driver
from cvperf.backends.gpu.machine import assuming
from cvperf.backends.gpu.model import Architecture

SOURCE = Path(__file__).with_name("stand_in.cpp")
STREAM = 0x77


def build(folder: Path) -> Path:
    """The stand-in's library."""
    library = folder / "stand_in.so"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE)],
        check=True,
    )
    return library


class StandIn:
    """The driver's other side."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.stand_in_calls.restype = ctypes.c_char_p
        self._library.stand_in_reset.argtypes = [ctypes.c_bool]
        self.driver = Driver(str(library))

    def reset(self, logs: bool = True) -> None:
        """Forget all calls, and this thread's context; whether to log from now on."""
        self._library.stand_in_reset(logs)

    def calls(self) -> list[str]:
        """What was asked for since the last reset."""
        return self._library.stand_in_calls().decode().splitlines()

    def refuse(self, status: int) -> None:
        """Answer all further launches with this CUresult."""
        self._library.stand_in_refuse(status)


class OnGpu(torch.Tensor):
    """A tensor that takes itself for one on a GPU; its numbers are those of one on the CPU."""

    @staticmethod
    def __new__(cls, data: torch.Tensor, index: int = 0) -> OnGpu:
        device = torch.device("cuda", index)
        made = torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype, device=device)
        made.index = index
        made.address = data.data_ptr()
        made.numbers = data  # kept alive
        return made

    def __torch_dispatch__(self, function: object, *args: object, **keywords: object) -> object:
        raise AssertionError(f"{function} would run on the GPU")

    def get_device(self) -> int:
        return self.index

    def data_ptr(self) -> int:
        return self.address


@contextmanager
def standing_in(stand_in: StandIn, gpu: Architecture) -> Iterator[list[int]]:
    """Launches within reach the stand-in; the GPUs that they changed to."""
    changes: list[int] = []

    @contextmanager
    def changed(index: int) -> Iterator[None]:
        changes.append(index)
        with mock.patch.object(torch.cuda, "current_device", return_value=index):
            yield

    stand_in.reset()
    with (
        assuming(gpu),
        mock.patch.object(launch, "driver", return_value=stand_in.driver),
        mock.patch.dict(launch._loaded, clear=True),
        mock.patch.object(torch.cuda, "current_device", new=int),  # as fast as the real one: 0
        mock.patch.object(torch.cuda, "device", changed),
        mock.patch.object(
            torch._C, "_cuda_getCurrentRawStream", lambda index: STREAM + index, create=True
        ),
    ):
        launch._library.cache_clear()
        yield changes
    launch._library.cache_clear()
