"""Fully connected layers whose weights alone are integers, widened as they are read.

It saves memory, and time where reading the weight is all the time there is: with few rows. The
products are torch's kernels for 8 and 4 bits (``_weight_int8pack_mm``,
``_weight_int4pack_mm_for_cpu``), which are fast in bfloat16 and slow in float32. Scales are rounded
to the dtype of the product before the weight is, so that their own rounding costs nothing.

Source: group-wise 4-bit weights as in Frantar et al., "GPTQ", ICLR 2023, section 3; the range of a
group is that of the least square error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from cvperf.engine.passes.convolution import add_weight, arguments, weight_of
from cvperf.engine.passes.layers import layer_name
from cvperf.quant.steps import fitted, on_steps, symmetric

_ATEN = torch.ops.aten
_ROWS = 16
"""torch's kernel for 4 bits takes the filters by so many."""


def narrow_weights(
    graph: fx.GraphModule,
    bits: int,
    group_size: int,
    dtype: torch.dtype,
    takes: Callable[[str], bool],
) -> int:
    """Keep the weights of a graph's float32 linear layers in 8 or 4 bits, in place.

    Args:
        graph: fused, float32.
        bits: 8, one scale a row; or 4.
        group_size: neighbours in a row that share a scale, of 4 bits: 32, 64 or 128.
        dtype: bfloat16 or float32, of what is multiplied with the weights, and of the product.
        takes: whether the layer of this name is to be narrow.

    Returns:
        How many are narrow now. A layer stays float whose weight is not fixed, or whose inputs do
        not split into the groups.
    """
    count = 0
    for node in list(graph.graph.nodes):
        if node.target != _ATEN.linear.default or not takes(layer_name(node)):
            continue
        weight = weight_of(graph, arguments(node)["weight"])
        if (
            weight is None
            or weight.dtype != torch.float32
            or node.args[0].meta["val"].dtype != torch.float32
            or (bits == 4 and weight.shape[1] % group_size)
        ):
            continue
        with graph.graph.inserting_before(node):
            rows = _rows(graph, node.args[0], weight.shape[1])
            if dtype != torch.float32:
                rows = _in(graph, rows, dtype)
            if bits == 8:
                narrow = _product8(graph, node, rows, weight, dtype)
            else:
                narrow = _product4(graph, node, rows, weight, group_size, dtype)
            if dtype != torch.float32:
                narrow = _in(graph, narrow, torch.float32)
            new = _finished(graph, node, narrow, len(weight))
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
        count += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return count


def _product8(
    graph: fx.GraphModule, node: fx.Node, rows: fx.Node, weight: Tensor, dtype: torch.dtype
) -> fx.Node:
    scale = symmetric(weight, 127)[1].to(dtype)
    steps = on_steps(weight, scale.float(), 127)
    return graph.graph.call_function(
        _ATEN._weight_int8pack_mm.default,
        (rows, add_weight(graph, node, "steps", steps), add_weight(graph, node, "scale", scale)),
    )


def _product4(
    graph: fx.GraphModule,
    node: fx.Node,
    rows: fx.Node,
    weight: Tensor,
    group_size: int,
    dtype: torch.dtype,
) -> fx.Node:
    filters = len(weight)
    packed, scales = packed_int4(weight, group_size, dtype)
    product = graph.graph.call_function(
        _ATEN._weight_int4pack_mm_for_cpu.default,
        (
            rows,
            add_weight(graph, node, "steps", packed),
            group_size,
            add_weight(graph, node, "scale", scales),
        ),
    )
    if filters % _ROWS == 0:
        return product
    return graph.graph.call_function(_ATEN.slice.Tensor, (product, 1, 0, filters))


def packed_int4(weight: Tensor, group_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A weight [N, K] as torch's kernel reads it: K divides into groups.

    Returns:
        uint8 [M, K / 2], and of the dtype [K / group_size, M, 2]: scales, and what stands for their
        middles, 0; M is N, made up to 16s.
    """
    rows, columns = weight.shape
    groups = weight.reshape(-1, group_size)
    scale = fitted(groups, 7)[1].to(dtype)
    steps = on_steps(groups, scale.float(), 7)
    extra = -rows % _ROWS
    # From 0 to 15, of which 8 stands for zero.
    numbers = functional.pad(steps.reshape(rows, columns).int() + 8, (0, 0, 0, extra), value=8)
    scales = functional.pad(scale.reshape(rows, -1), (0, 0, 0, extra)).T
    packed = _ATEN._convert_weight_to_int4pack_for_cpu.default(numbers, 1)
    return packed, torch.stack([scales, torch.zeros_like(scales)], -1).contiguous()


def _in(graph: fx.GraphModule, x: fx.Node, dtype: torch.dtype) -> fx.Node:
    return graph.graph.call_function(_ATEN._to_copy.default, (x,), {"dtype": dtype})


def _rows(graph: fx.GraphModule, x: fx.Node, columns: int) -> fx.Node:
    if x.meta["val"].dim() == 2:
        return x
    return graph.graph.call_function(_ATEN.view.default, (x, [-1, columns]))


def _finished(graph: fx.GraphModule, node: fx.Node, product: fx.Node, filters: int) -> fx.Node:
    """With the layer's bias, and in the shape of its answer."""
    x, bias = node.args[0], arguments(node)["bias"]
    assert isinstance(x, fx.Node)
    if bias is not None:
        product = graph.graph.call_function(_ATEN.add.Tensor, (product, bias))
    sizes = x.meta["val"].shape[:-1]
    if len(sizes) == 1:
        return product
    shape: list[Any] = [
        size if isinstance(size, int) else graph.graph.call_function(_ATEN.sym_size.int, (x, i))
        for i, size in enumerate(sizes)
    ]
    return graph.graph.call_function(_ATEN.view.default, (product, [*shape, filters]))
