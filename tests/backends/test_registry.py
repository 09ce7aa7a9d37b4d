"""The registry: picks, refusals that say why, and backends by name."""

from __future__ import annotations

import pytest
import torch

import cvperf
from cvperf.backends import registry


def test_every_public_op_runs_on_the_cpu_and_has_a_reference() -> None:
    names = {(backend.op, backend.name) for backend in registry.backends()}
    ops = {op for op, _ in names}
    assert ops == {op for op, name in names if name == "cpu"}
    assert ops == {op for op, name in names if name == "reference"}


def test_the_refusal_names_the_call_and_each_backend() -> None:
    match = r"nms on cuda with float32.*cpu: takes cpu tensors"
    with pytest.raises(cvperf.UnsupportedError, match=match):
        registry.select("nms", "cuda", torch.float32)


def test_an_unsupported_dtype_is_named_with_those_that_work() -> None:
    with pytest.raises(cvperf.UnsupportedError, match="takes float16, bfloat16, float32, float64"):
        registry.select("nms", "cpu", torch.int32)


def test_prefer_runs_the_reference_and_only_inside_the_block() -> None:
    with registry.prefer("reference"):
        assert registry.select("nms", "cpu", torch.float32).name == "reference"
    assert registry.select("nms", "cpu", torch.float32).name == "cpu"


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    known = pytest.raises(cvperf.UnsupportedError, match="known: cpu, cpu sweep, cuda, reference")
    with known, registry.prefer("gpu"):
        pass


def test_the_error_is_a_value_error_and_a_runtime_error() -> None:
    assert issubclass(cvperf.UnsupportedError, (ValueError, RuntimeError))
    assert issubclass(cvperf.ArgumentError, ValueError)
    assert issubclass(cvperf.ArgumentError, RuntimeError)
