"""The part of CUDA's driver that launches need, found when the first kernel is loaded.

Through ctypes, which takes microseconds a call: only loading goes this way. Launching goes through
``_C.launch_kernel``, which is given the address of ``cuLaunchKernel``.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_void_p
from typing import Any

from cvperf.errors import LaunchError, UnsupportedError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

INVALID_CONTEXT = 201
"""CUresult of a thread that has not used the GPU yet."""

_MAX_DYNAMIC_SHARED_BYTES = 8  # of CUfunction_attribute
_RELAXED = 2  # of CUstreamCaptureMode
_TENSOR_MAP_BYTES, _TENSOR_MAP_ALIGNMENT = 128, 64


class Driver:
    """The functions of ``libcuda``, or of a library that stands in for it."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise UnsupportedError(
                f"CUDA kernels need NVIDIA's driver, and {path} cannot be loaded: {error}"
            ) from error
        self._check(self._library.cuInit(0), "starting the driver")
        self.launcher = ctypes.cast(self._library.cuLaunchKernel, c_void_p).value or 0
        """The address of cuLaunchKernel."""

    def load(self, code: bytes) -> int:
        """A library handle for compiled code, for all GPUs; it stays loaded."""
        library = c_void_p()
        nothing = (None, None, 0)
        status = self._library.cuLibraryLoadData(byref(library), code, *nothing, *nothing)
        self._check(status, f"loading {len(code)} bytes of code")
        return library.value or 0

    def kernel(self, library: int, symbol: str) -> int:
        """The handle of one kernel of a library, for all GPUs."""
        kernel = c_void_p()
        name = c_char_p(symbol.encode())
        status = self._library.cuLibraryGetKernel(byref(kernel), c_void_p(library), name)
        self._check(status, f"finding {symbol}")
        return kernel.value or 0

    def prepare(self, kernel: int) -> None:
        """Bring a kernel to the current GPU now: launches within a graph's capture cannot."""
        function = c_void_p()
        status = self._library.cuKernelGetFunction(byref(function), c_void_p(kernel))
        self._check(status, "bringing a kernel to the GPU")

    def allow_shared(self, kernel: int, index: int, size: int) -> None:
        """Let a kernel take so many bytes of dynamic shared memory on one GPU."""
        status = self._library.cuKernelSetAttribute(
            _MAX_DYNAMIC_SHARED_BYTES, size, c_void_p(kernel), self._device(index)
        )
        self._check(status, f"asking for {size} bytes of shared memory")

    def ensure_context(self, index: int) -> None:
        """Make torch's context of a GPU this thread's, if the thread has none."""
        context = c_void_p()
        self._check(self._library.cuCtxGetCurrent(byref(context)), "finding the context")
        if context.value is None:
            status = self._library.cuDevicePrimaryCtxRetain(byref(context), self._device(index))
            self._check(status, f"opening GPU {index}")
            self._check(self._library.cuCtxSetCurrent(context), f"using GPU {index}")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """This thread may allocate within although a CUDA graph is being captured."""
        mode = c_int(_RELAXED)
        exchange = self._library.cuThreadExchangeStreamCaptureMode
        self._check(exchange(byref(mode)), "leaving a graph's capture")
        try:
            yield
        finally:
            exchange(byref(mode))  # now holds the mode before

    def tensor_map(self, kind: str, *arguments: Any) -> bytes:
        """What ``cuTensorMapEncode{kind}`` makes of its arguments: all but where to put it."""
        buffer = ctypes.create_string_buffer(_TENSOR_MAP_BYTES + _TENSOR_MAP_ALIGNMENT)
        address = ctypes.addressof(buffer)
        start = -address % _TENSOR_MAP_ALIGNMENT
        encode = getattr(self._library, f"cuTensorMapEncode{kind}")
        self._check(encode(c_void_p(address + start), *arguments), "describing a tensor to copy")
        return buffer.raw[start : start + _TENSOR_MAP_BYTES]

    def explain(self, status: int) -> str:
        """A CUresult's name and text."""
        name, text = c_char_p(), c_char_p()
        self._library.cuGetErrorName(status, byref(name))
        self._library.cuGetErrorString(status, byref(text))
        known = [one.value.decode() for one in (name, text) if one.value]
        return ": ".join(known) or f"CUresult {status}"

    def _device(self, index: int) -> c_int:
        device = c_int()
        self._check(self._library.cuDeviceGet(byref(device), index), f"finding GPU {index}")
        return device

    def _check(self, status: Any, what: str) -> None:
        if status:
            raise LaunchError(f"{what} failed: {self.explain(status)}")


@functools.cache
def driver() -> Driver:
    """The driver of this machine.

    Raises:
        UnsupportedError: there is none.
    """
    return Driver(LIBRARY)
