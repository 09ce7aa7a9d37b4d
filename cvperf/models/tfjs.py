"""Weights of TensorFlow.js: a manifest in JSON, and one file of bytes in its order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvperf.errors import ArgumentError

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1"}


def read_tfjs(path: Path) -> dict[str, Tensor]:
    """Weights by name, in TensorFlow's layouts (a convolution's are [H, W, in, out]).

    What was quantised to 8 or 16 bits is scaled back, half precision widened: each has the dtype
    that the manifest names.

    Args:
        path: a manifest (a list of groups), or a graph model's JSON, which has one inside. The
            files of bytes that it names lie beside it.

    Raises:
        ArgumentError: it is neither, or the bytes are not as many as the manifest says.
        FileNotFoundError: a file is not there.
    """
    found = json.loads(path.read_text())
    groups = found.get("weightsManifest") if isinstance(found, dict) else found
    if not isinstance(groups, list):
        raise ArgumentError(f"{path} has no weightsManifest and is none: a list was expected")
    weights: dict[str, Tensor] = {}
    for group in groups:
        content = memoryview(b"".join((path.parent / name).read_bytes() for name in group["paths"]))
        files = ", ".join(group["paths"])
        for entry in group["weights"]:
            stored = _stored(entry)
            size = stored.itemsize * prod(entry["shape"])
            if len(content) < size:
                raise ArgumentError(
                    f"{files} ends within {entry['name']}, {size} bytes by {path}, {len(content)} "
                    "there: take the files from their package anew"
                )
            weights[entry["name"]] = _value(entry, np.frombuffer(content[:size], stored))
            content = content[size:]
        if content:
            raise ArgumentError(f"{files} has {len(content)} bytes more than {path} names")
    return weights


def convolution(weight: Tensor) -> Tensor:
    """[out, in, H, W] of TensorFlow's [H, W, in, out]."""
    return weight.permute(3, 2, 0, 1).contiguous()


def depthwise(weight: Tensor) -> Tensor:
    """[channels, 1, H, W] of TensorFlow's [H, W, channels, 1]."""
    return weight.permute(2, 3, 0, 1).contiguous()


def _stored(entry: Mapping[str, Any]) -> np.dtype[Any]:
    quantised = entry.get("quantization", {}).get("dtype")
    known = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"} if quantised else _DTYPES
    name = quantised or entry["dtype"]
    if name not in known:
        raise ArgumentError(f"{entry['name']} is stored as {name}; known: {', '.join(known)}")
    return np.dtype(known[name])


def _value(entry: Mapping[str, Any], stored: np.ndarray) -> Tensor:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if "scale" in entry.get("quantization", {}):
        scaled = stored * np.float64(entry["quantization"]["scale"]) + entry["quantization"]["min"]
        stored = scaled.round() if dtype.kind == "i" else scaled
    return torch.from_numpy(stored.astype(dtype).reshape(entry["shape"]))
