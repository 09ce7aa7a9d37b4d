"""Convolution weights that are packed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu import conv2d as cpu
from cvperf.backends.registry import FLOATING
from cvperf.errors import ArgumentError, check_tensor, describe, is_array
from cvperf.ops._arrays import call_with_tensors
from cvperf.ops._convolution import check_groups
from cvperf.ops._replay import RemembersCalls


@dataclass(frozen=True, eq=False)
class PackedConv2d(RemembersCalls):
    """A convolution weight in the forms that the kernels read; made by :func:`pack_conv2d`.

    On a GPU that is the weight itself, channels-last. On the CPU each form is made by the first
    call that needs it, and kept: the direct sum of a layer takes about as much memory as the
    weight, Winograd's algorithm 1.8 times (2x2) or 4 times (4x4) that.

    Attributes:
        weight: [O, C / groups, kh, kw], channels-last, already scaled.
        groups: blocks that the channels are split into.
    """

    weight: Tensor
    groups: int
    _forms: dict[tuple[str, int, int, str], Tensor | None] = field(default_factory=dict, repr=False)

    def form(self, dilation: Sequence[int], algorithm: str) -> Tensor | None:
        """What the kernel of an algorithm reads in place of the weight, or None for the weight."""
        key = (algorithm, dilation[0], dilation[1], _C.isa())
        if key not in self._forms:
            self._forms[key] = cpu.pack(self.weight, dilation, self.groups, algorithm)
        return self._forms[key]


def pack_conv2d(weight: Tensor, groups: int = 1, *, scale: Tensor | None = None) -> PackedConv2d:
    """Pack a convolution's weight once, for many calls of :func:`conv2d`.

    Without it each call packs the weight anew, which on a map of 7x7 pixels takes as long as the
    convolution itself; on a GPU it saves turning an NCHW weight. A packed layer always computes
    channels-last; it has no gradient.

    Args:
        weight: [O, C / groups, kh, kw] on the CPU or a GPU; float16, bfloat16, float32 or float64.
            Later changes to it are not seen.
        groups: as :func:`conv2d` will be called.
        scale: [O] or None: multiplies each filter, as a batch norm behind the layer does
            (``gamma / sqrt(variance + eps)``; its shift belongs into the bias).

    Returns:
        A value to pass to :func:`conv2d` in place of the weight.

    Raises:
        ArgumentError: shapes, dtypes, devices or groups do not fit.
        TypeError: an argument is of the wrong type.

    Complexity: a copy of the weight now; one pass over it at the first call of each algorithm.
    """
    if not isinstance(weight, Tensor) and is_array(weight):
        return call_with_tensors(pack_conv2d, locals())
    check_tensor("weight", weight, "weight[O, C/groups, kh, kw]", ndim=4, dtypes=FLOATING)
    if weight.device.type not in ("cpu", "cuda"):
        raise ArgumentError(f"weight must be on the CPU or a GPU, got {describe(weight)}")
    check_groups(weight, groups)
    own = weight.detach()
    if scale is not None:
        check_tensor("scale", scale, "scale[O]", ndim=1, like=("weight", weight))
        if scale.shape[0] != weight.shape[0]:
            raise ArgumentError(
                f"scale must have one number a filter: scale is {describe(scale)}, "
                f"weight is {describe(weight)}"
            )
        own = own * scale.detach().view(-1, 1, 1, 1)
    own = own.clone(memory_format=torch.channels_last)
    return PackedConv2d(own, groups)
