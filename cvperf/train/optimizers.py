"""An optimiser of torch by name, with a rate and a decay for each kind of parameter."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn

from cvperf.errors import ArgumentError, did_you_mean
from cvperf.train.recipe import Optimizer


def freeze(model: nn.Module, patterns: Iterable[str]) -> list[nn.Module]:
    """Take parameters whose name fits a pattern out of training.

    Returns:
        The batch norms among their owners: they are to stay in evaluation mode, since statistics
        that move would change what the frozen layers compute.

    Raises:
        ArgumentError: a pattern fits no parameter.
    """
    patterns = list(patterns)
    names = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise ArgumentError(f"model.freeze {pattern!r} fits no parameter; {_examples(names)}")
    for name, parameter in names.items():
        if any(fnmatch(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    return [norm for norm in norms if norm.weight is not None and not norm.weight.requires_grad]


def build(config: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a model's parameters that are not frozen.

    Raises:
        ArgumentError: torch has no optimiser of this name or it takes no such option, a pattern
            of ``rates`` fits nothing, or every parameter is frozen.
    """
    kind = _class(config.name)
    groups = _groups(config, model)
    try:
        return kind(groups, lr=config.lr, **config.options)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"optimizer {config.name!r}: {error}") from error


def _class(name: str) -> Any:
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    del known["optimizer"]
    if name.lower() not in known:
        hint = did_you_mean(name.lower(), known) or "."
        raise ArgumentError(f"unknown optimizer {name!r}{hint} Known: {', '.join(sorted(known))}")
    return known[name.lower()]


def _groups(config: Optimizer, model: nn.Module) -> list[dict[str, Any]]:
    """Parameters by rate and decay. A parameter takes the first pattern of ``rates`` it fits."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not named:
        raise ArgumentError("model.freeze leaves no parameter to train")
    unused = set(config.rates)
    for name, parameter in named.items():
        pattern = next((p for p in config.rates if fnmatch(name, p)), None)
        unused.discard(pattern or "")
        rate = config.lr * (1.0 if pattern is None else config.rates[pattern])
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if unused:
        first = sorted(unused)[0]
        raise ArgumentError(f"optimizer.rates {first!r} fits no parameter; {_examples(named)}")
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _examples(names: Iterable[str]) -> str:
    listed = list(names)
    return f"their names are like {', '.join(dict.fromkeys((listed[0], listed[-1])))}"
