"""What names a kernel."""

from __future__ import annotations

from typing import NamedTuple


class Kernel(NamedTuple):
    """One kernel, compiled by itself.

    Attributes:
        file: of ``kernels/cuda``, such as ``"nms.cu"``.
        name: the C++ expression that names the function, such as ``"nms_overlaps<64, true>"``.
        fused: whether a product and a sum may round once; False where bits must equal the CPU's.
    """

    file: str
    name: str
    fused: bool = True
