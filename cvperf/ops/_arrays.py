"""Arrays of NumPy, CuPy and other libraries in place of tensors, without a copy.

An op whose first argument is an array calls itself with tensors that lie in the same memory, and
its answer is handed back as arrays of that library. This is asked of the first argument only, with
one ``isinstance``, so that a call with tensors pays about 25 nanoseconds for it.

How memory is shared. NumPy by its buffers, which allows read-only arrays (no op writes into its
arguments) and bfloat16 (of ml_dtypes); every other library by DLPack: ``torch.from_dlpack``, and
back by the ``from_dlpack`` of the array's namespace. Torch cannot describe negative strides, nor
NumPy's elements at odd addresses: such arrays are copied, in the order that they have in memory.

Streams. CuPy has a current stream, and the op runs on that one, so its output belongs to it as an
output of CuPy's own would, and nothing waits. Arrays of other libraries are ordered by DLPack: the
producer makes torch's current stream wait for its own, and on the way back torch makes the
consumer's wait. That covers values; memory freed on one of two streams may be given out again
before the other has read it, so keep inputs until the answer is used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from cvperf.errors import ArgumentError, UnsupportedError, describe, is_array

_CUDA = 2  # kDLCUDA of dlpack.h


def call_with_tensors(op: Any, variables: dict[str, Any]) -> Any:
    """Call ``op`` on tensors in the memory of the arrays among its arguments.

    Args:
        op: a public op.
        variables: its ``locals()`` where it starts, at least one of them an array. Arrays may
            stand alone or in a list or tuple.

    Returns:
        What the op returns, tensors as arrays of the library that the first array is from.

    Raises:
        TypeError: arrays of two libraries, or arrays and tensors; or a library without DLPack.
        ArgumentError: arrays on two devices, or one that a tensor cannot describe.
        UnsupportedError: the library has no arrays of the answer's dtype.
    """
    code = op.__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    arguments = {each: variables[each] for each in parameters}  # torch.compile has more variables
    named = list(_named(arguments))
    name, first = next(each for each in named if is_array(each[1]))
    library = _library(name, first)
    for other, value in named:
        if type(value) is type(first):
            continue
        if isinstance(value, Tensor) or _library(other, value) is not library:
            raise TypeError(
                f"{name} and {other} must be of one library: {name} is {describe(first)}, {other} "
                f"is {describe(value)}. Convert one"
            )
    with _on_stream_of(library, first):
        tensors = {id(value): _as_tensor(other, value, library) for other, value in named}
        device = tensors[id(first)].device
        for other, value in named:
            if tensors[id(value)].device != device:
                raise ArgumentError(
                    f"{name} and {other} must be on the same device: {name} is {describe(first)} "
                    f"on {device}, {other} is {describe(value)} on {tensors[id(value)].device}"
                )
        answer = op(**{key: _replaced(value, tensors) for key, value in arguments.items()})
        if isinstance(answer, tuple):
            return tuple(_as_array(each, library) for each in answer)
        return _as_array(answer, library) if isinstance(answer, Tensor) else answer


def _named(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arrays and tensors among the arguments, with the names that error messages give them."""
    for name, value in arguments.items():
        if isinstance(value, (list, tuple)):
            yield from _named({f"{name}[{i}]": each for i, each in enumerate(value)})
        elif isinstance(value, Tensor) or is_array(value):
            yield name, value


def _replaced(value: Any, tensors: dict[int, Tensor]) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_replaced(each, tensors) for each in value)
    return tensors.get(id(value), value)


def _library(name: str, array: Any) -> ModuleType:
    """The module with the array's ``from_dlpack``: its namespace, or the package of its class."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    for base in type(array).__mro__:
        package = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(package, "from_dlpack"):
            assert package is not None
            return package
    raise TypeError(
        f"{name} is {describe(array)}, from a library without from_dlpack, which the answer would "
        "need. Pass torch.from_dlpack() of it"
    )


def _on_stream_of(library: ModuleType, array: Any) -> AbstractContextManager[Any]:
    """Run on the library's current stream if it has such a thing, else on torch's."""
    if library.__name__ == "numpy":
        return nullcontext()
    kind, index = array.__dlpack_device__()
    if kind != _CUDA:
        return nullcontext()
    current = getattr(getattr(library, "cuda", None), "get_current_stream", None)
    if current is None:
        return torch.cuda.device(index)
    address = current(index).ptr
    if address == 0:  # the default stream, which ExternalStream takes for a request for a new one
        return torch.cuda.stream(torch.cuda.default_stream(index))
    return torch.cuda.stream(torch.cuda.ExternalStream(address, device=index))


def _as_tensor(name: str, array: Any, library: ModuleType) -> Tensor:
    numpy = library.__name__ == "numpy"
    strides = getattr(array, "strides", None)
    if (strides and min(strides) < 0) or (numpy and not array.flags.aligned):
        array = array.copy(order="K")
    try:
        return _numpy_as_tensor(array) if numpy else from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{name} is {describe(array)}, which a tensor cannot share: {error}"
        ) from error


class _Writable:
    """The memory of a NumPy array, and a claim that it may be written to.

    Torch has no read-only tensors and warns of read-only arrays; ops do not write to arguments.
    """

    def __init__(self, array: Any) -> None:
        self.owner = array
        described = array.__array_interface__
        self.__array_interface__ = {**described, "data": (described["data"][0], False)}


def _numpy_as_tensor(array: Any) -> Tensor:
    if array.dtype.type.__name__ == "bfloat16":
        return _numpy_as_tensor(array.view("int16")).view(torch.bfloat16)
    if not array.flags.writeable:
        array = sys.modules["numpy"].asarray(_Writable(array))
    return torch.from_numpy(array)


def _as_array(tensor: Tensor, library: ModuleType) -> Any:
    try:
        if library.__name__ != "numpy":
            return library.from_dlpack(tensor)
        if tensor.dtype != torch.bfloat16:
            return tensor.numpy()
        bfloat16 = importlib.import_module("ml_dtypes").bfloat16
        return tensor.view(torch.int16).numpy().view(bfloat16)
    except (BufferError, ImportError, NotImplementedError, TypeError) as error:
        hint = " (pip install ml_dtypes)" if isinstance(error, ImportError) else ""
        raise UnsupportedError(
            f"the answer is {describe(tensor)}, which {library.__name__} cannot hold here: "
            f"{error}{hint}. Ask for another dtype, or pass tensors"
        ) from error
