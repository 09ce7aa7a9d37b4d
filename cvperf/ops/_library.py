"""Registration of cvperf's ops with torch.library, in one call for each op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from cvperf.backends import cpu, cuda, reference, registry, triton  # noqa: F401  (they register)
from cvperf.ops._direct import ordinary

_library = torch.library.Library("cvperf", "DEF")


def define(
    schema: str,
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Define ``cvperf::NAME`` from its schema; the registry picks who runs it.

    Args:
        schema: the op's schema without the namespace; its first argument must be a tensor, or a
            list of at least one, whose device, dtype and layout select the backend.
        fake: shape, dtype and strides of the output for tensors without data.
        backward: gradient formula as ``torch.library.register_autograd`` takes it.
        setup_context: what the gradient formula needs saved.

    Returns:
        The op as our own functions call it: an ordinary call goes straight to its kernel, any
        other through ``torch.ops.cvperf.NAME``.
    """
    name = schema.split("(", 1)[0]
    qualified = f"cvperf::{name}"
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

    def run(first: torch.Tensor | Sequence[torch.Tensor], *args: Any) -> Any:
        tensor = first if isinstance(first, torch.Tensor) else first[0]
        return registry.select_for(name, tensor).function(first, *args)

    for key in ("CPU", "CUDA"):
        _library.impl(name, run, key)
    torch.library.register_fake(qualified, fake, lib=_library)
    if backward is not None:
        torch.library.register_autograd(
            qualified, backward, setup_context=setup_context, lib=_library
        )
    dispatched = getattr(torch.ops.cvperf, name).default

    def call(first: torch.Tensor | Sequence[torch.Tensor], *args: Any) -> Any:
        return (run if ordinary(first, *args) else dispatched)(first, *args)

    return call
