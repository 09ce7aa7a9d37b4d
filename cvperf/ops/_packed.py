"""Convolution weights that are packed once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cvperf import _C
from cvperf.backends.cpu import conv2d as cpu
from cvperf.backends.registry import FLOATING, preferred
from cvperf.errors import ArgumentError, check_tensor, describe
from cvperf.ops._convolution import Pair, check_groups
from cvperf.ops._direct import ordinary

_MOST_REPLAYS = 64
"""Of one layer, in sizes of its input; an image of yet another size starts the count anew."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A checked call of a packed layer, ready to run again on tensors laid out as before.

    Checks and look-ups of a call cost 20 microseconds in Python, as much as a small layer. Their
    results depend on sizes, strides and dtypes only.
    """

    call: _C.Conv2dCall
    shape: tuple[int, int, int, int]
    stride: tuple[int, ...]
    weight: Tensor
    form: Tensor | None

    def __call__(
        self, input: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor | None:
        """The output, or None where something is not as it was."""
        if input.stride() != self.stride or not ordinary(input, bias, residual):
            return None
        if bias is not None and not (
            _like(bias, input) and bias.shape == self.shape[1:2] and bias.is_contiguous()
        ):
            return None
        output = torch.empty(self.shape, dtype=input.dtype, memory_format=torch.channels_last)
        if residual is not None and not (
            _like(residual, input)
            and residual.shape == output.shape
            and residual.stride() == output.stride()
        ):
            return None
        self.call(
            input.data_ptr(),
            self.weight.data_ptr(),
            0 if self.form is None else self.form.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            0 if residual is None else residual.data_ptr(),
            output.data_ptr(),
            torch.get_num_threads(),
        )
        return output


def _like(tensor: Tensor, input: Tensor) -> bool:
    return tensor.dtype == input.dtype and tensor.is_cpu


@dataclass(frozen=True, eq=False)
class PackedConv2d:
    """A convolution weight in the forms that the kernels read; made by :func:`pack_conv2d`.

    Each form is made by the first call that needs it, and kept: the direct sum of a layer takes
    about as much memory as the weight, Winograd's algorithm 1.8 times (2x2) or 4 times (4x4) that.

    Attributes:
        weight: [O, C / groups, kh, kw], channels-last, already scaled.
        groups: blocks that the channels are split into.
    """

    weight: Tensor
    groups: int
    _forms: dict[tuple[str, int, int, str], Tensor | None] = field(default_factory=dict, repr=False)
    _replays: dict[Hashable, Replay] = field(default_factory=dict, repr=False)

    def replay(
        self, key: Hashable, input: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor | None:
        """The answer to a call like one before, or None if there was none."""
        if preferred() is not None:
            return None  # another backend is to run it
        try:
            known = self._replays.get(key)
        except TypeError:  # a list among the arguments has no hash
            return None
        return None if known is None else known(input, bias, residual)

    def form(self, dilation: Sequence[int], algorithm: str) -> Tensor | None:
        """What the kernel of an algorithm reads in place of the weight, or None for the weight."""
        key = (algorithm, dilation[0], dilation[1], _C.isa())
        if key not in self._forms:
            self._forms[key] = cpu.pack(self.weight, dilation, self.groups, algorithm)
        return self._forms[key]


def remember(
    layer: PackedConv2d,
    key: Hashable,
    image: Tensor,
    geometry: tuple[Pair, Pair, Pair],
    activation: str | None,
    algorithm: str,
) -> None:
    """Let later calls with this key skip what was found out in this one."""
    if not image.is_contiguous(memory_format=torch.channels_last):
        return  # each call copies it
    if preferred() is not None or not _hashes(key):
        return
    if len(layer._replays) >= _MOST_REPLAYS:
        layer._replays.clear()
    sizes = (tuple(image.shape), tuple(layer.weight.shape), *geometry)
    call, shape = cpu.prepare(sizes, layer.groups, True, True, image.dtype, activation, algorithm)
    form = layer.form(geometry[2], algorithm)
    layer._replays[key] = Replay(call, shape, image.stride(), layer.weight, form)


def _hashes(key: Hashable) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def pack_conv2d(weight: Tensor, groups: int = 1, *, scale: Tensor | None = None) -> PackedConv2d:
    """Pack a convolution's weight once, for many calls of :func:`conv2d`.

    Without it each call packs the weight anew, which on a map of 7x7 pixels takes as long as the
    convolution itself. A packed layer always computes channels-last; it has no gradient.

    Args:
        weight: [O, C / groups, kh, kw] on the CPU; float16, bfloat16, float32 or float64. Later
            changes to it are not seen.
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
    check_tensor("weight", weight, "weight[O, C/groups, kh, kw]", ndim=4, dtypes=FLOATING)
    if weight.device.type != "cpu":
        raise ArgumentError(
            f"weight must be on the CPU, got {describe(weight)}: packing is for the CPU kernels. "
            "Pass the weight itself to conv2d"
        )
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
