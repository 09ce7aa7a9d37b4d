"""Linear layers with 4-bit weights on the CPU: the weight is expanded, and torch multiplies."""

from __future__ import annotations

import torch
from torch import Tensor

from cvperf.backends.reference.activation import activate
from cvperf.backends.reference.int4_linear import expanded_int4
from cvperf.backends.registry import register


@register("int4_linear", "cpu", "cpu", (torch.float16, torch.bfloat16, torch.float32))
def int4_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    expanded = expanded_int4(weight, scale, zero, torch.float32)
    shift = None if bias is None else bias.float()
    value = torch.nn.functional.linear(x.float(), expanded, shift)
    return activate(activation, value).to(x.dtype).contiguous()
