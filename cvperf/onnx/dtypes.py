"""ONNX's numbers for element types, and its tensors, as torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cvperf.errors import UnsupportedError

# TensorProto.DataType. torch has no arithmetic on uint16 to uint64, but holds them.
DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    16: torch.bfloat16,
}


def torch_dtype(where: object, number: int) -> torch.dtype:
    """The dtype of an ONNX element type.

    Raises:
        UnsupportedError: torch has none (strings, 4-bit numbers, 8-bit floats); ``where`` is named.
    """
    if number not in DTYPES:
        import onnx

        name = onnx.TensorProto.DataType.Name(number).lower()
        raise UnsupportedError(
            f"cvperf.from_onnx: {where} has elements of type {name}, which cannot be read; convert "
            "the model to float32, or to int8 with QuantizeLinear"
        )
    return DTYPES[number]


def torch_tensor(proto: Any) -> Tensor:
    """An ``onnx.TensorProto`` as a tensor of its own memory."""
    from onnx import numpy_helper

    dtype = torch_dtype(f"the tensor {proto.name!r}", proto.data_type)
    array = numpy_helper.to_array(proto)
    if dtype is torch.bfloat16:  # NumPy has none of its own
        return torch.from_numpy(array.astype("float32")).to(dtype)
    return torch.from_numpy(array.copy())
