"""Where the original is faster than our kernel: the recorded crossovers of the drop-in.

Each rule was measured side by side with the original and is stated in terms of the call's shape; the
figures behind it are in docs/performance.md. A rule returns why the original runs, or None.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def conv2d(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> str | None:
    return None


def conv2d_backward(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> str | None:
    return None
