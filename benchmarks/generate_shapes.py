"""Rewrite the ``traced`` part of conv2d.yaml and int8_gemm.yaml from the networks.

    python -m cvperf.benchmarks.generate_shapes

Each network is traced by torch.fx on the meta device: no weights, no arithmetic. Everything above
the line ``traced:`` of a file is kept as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from cvperf.benchmarks.networks import NETWORKS, Network

FOLDER = Path(__file__).parent / "shapes"
MARK = "\ntraced:\n"

Layer = tuple[tuple[str, Any], ...]
"""The fields of one line, hashable."""

DEFAULTS: Mapping[str, Any] = {
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "activation": None,
}
"""Left out of a line."""

ACTIVATIONS: Mapping[Any, str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.Sigmoid: "sigmoid",
    F.relu: "relu",
    torch.relu: "relu",
    F.relu6: "relu6",
    F.silu: "silu",
    torch.sigmoid: "sigmoid",
}


@cache
def trace(network: Network) -> fx.GraphModule:
    """The network's graph in inference, every node with the size of its output."""
    with torch.device("meta"):
        graph = fx.symbolic_trace(network.build().eval())
        image = torch.empty(1, network.channels, network.size, network.size)
        ShapeProp(graph).propagate(image)
    return graph


def convolutions(graph: fx.GraphModule) -> Counter[Layer]:
    """How often the network calls each of its convolutions, batch norm folded into it.

    Transposed convolutions are not among them.
    """
    calls: Counter[Layer] = Counter()
    for node in graph.graph.nodes:
        module = _module(graph, node)
        if type(module) is not nn.Conv2d:
            continue
        assert isinstance(module.padding, tuple), "padding given as a word"
        _, c, h, w = node.args[0].meta["tensor_meta"].shape
        folded, activation = _what_follows(graph, node)
        given = {
            "c": c,
            "o": module.out_channels,
            "h": h,
            "w": w,
            "kernel": _short(module.kernel_size),
            "stride": _short(module.stride),
            "padding": _short(module.padding),
            "dilation": _short(module.dilation),
            "groups": module.groups,
            "bias": folded or module.bias is not None,
            "activation": activation,
        }
        calls[_without_defaults(given)] += 1
    return calls


def linears(graph: fx.GraphModule) -> Counter[Layer]:
    """How often the network calls each of its linear layers."""
    modules = (_module(graph, node) for node in graph.graph.nodes)
    found = [module for module in modules if type(module) is nn.Linear]
    return Counter((("n", one.out_features), ("k", one.in_features)) for one in found)


def text(layers: Callable[[fx.GraphModule], Counter[Layer]]) -> str:
    """The lines below ``traced:``: each distinct layer once, with its calls in each network."""
    nets: dict[Layer, dict[str, int]] = {}
    for name, network in NETWORKS.items():
        for layer, count in layers(trace(network)).items():
            nets.setdefault(layer, {})[name] = count
    lines = [dict(layer) | {"nets": nets[layer]} for layer in sorted(nets, key=_order)]
    return "".join(
        f"  - {yaml.safe_dump(line, default_flow_style=True, sort_keys=False, width=1000)}"
        for line in lines
    )


def rewritten(file: Path, layers: Callable[[fx.GraphModule], Counter[Layer]]) -> str:
    """``file`` with its traced part made anew."""
    above, mark, _ = file.read_text().partition(MARK)
    if not mark:
        raise ValueError(f"{file} has no line 'traced:', below which the traced layers belong")
    return above + mark + text(layers)


TRACED: Mapping[str, Callable[[fx.GraphModule], Counter[Layer]]] = {
    "conv2d.yaml": convolutions,
    "int8_gemm.yaml": linears,
}


def main() -> None:
    for name, layers in TRACED.items():
        file = FOLDER / name
        file.write_text(rewritten(file, layers))
        print(f"wrote {file}")


def _what_follows(graph: fx.GraphModule, node: fx.Node) -> tuple[bool, str | None]:
    """(whether a batch norm follows, the activation that can be fused after it)."""
    following = _only_user(node)
    folded = following is not None and isinstance(_module(graph, following), nn.BatchNorm2d)
    if folded:
        following = _only_user(following)
    if following is None:
        return folded, None
    module = _module(graph, following)
    return folded, ACTIVATIONS.get(following.target if module is None else type(module))


def _only_user(node: fx.Node | None) -> fx.Node | None:
    """Who takes the node's output; None where several do, so that nothing can be fused into it."""
    users = [] if node is None else list(node.users)
    return users[0] if len(users) == 1 else None


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _short(pair: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where both are the same."""
    return pair[0] if pair[0] == pair[1] else pair


def _without_defaults(given: Mapping[str, Any]) -> Layer:
    return tuple((name, value) for name, value in given.items() if value != DEFAULTS.get(name, ""))


def _order(layer: Layer) -> tuple[Any, ...]:
    """Ungrouped first, then by kernel, channels and size; linear layers by n and k."""
    values = dict(layer)
    keys = ("groups", "kernel", "c", "o", "h", "w", "stride", "n", "k")
    numbers = [str(values.get(key, 0)).rjust(8) for key in keys]
    return ("groups" in values, *numbers[1:], *map(str, layer))


if __name__ == "__main__":
    main()
