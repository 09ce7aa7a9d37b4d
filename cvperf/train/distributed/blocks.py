"""The blocks of a network, between which pipelines are cut and which are sharded one by one."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def blocks(
    model: nn.Module, most: float | None = None, prefix: str = ""
) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of a network's blocks, in the order of their definition.

    A block is a child of the network or of an ``nn.Sequential`` in it: a residual block, a stage of
    convolution, norm and activation, a layer. With ``most``, a block of more parameter bytes than
    that is opened too.
    """
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        is_list = isinstance(child, nn.Sequential | nn.ModuleList)
        heavy = most is not None and parameter_bytes(child) > most
        if (is_list or heavy) and any(True for _ in child.children()):
            yield from blocks(child, most, f"{path}.")
        else:
            yield path, child


def parameter_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters."""
    return sum(p.nbytes for p in module.parameters())
