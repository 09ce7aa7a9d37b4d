"""Running a native call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvperf import _C


def run(call: _C.Call, read: Sequence[Tensor | None], output: Tensor) -> Tensor:
    """The output, written from what the kernel reads; None for what is absent.

    ``read`` keeps copies alive until the kernel returns: their addresses are what it gets.
    """
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in read]
    call(addresses, output.data_ptr(), torch.get_num_threads())
    return output
