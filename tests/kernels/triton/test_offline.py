"""What ships compiles for every architecture, without spills and within its budget. No GPU.

docs/gpu.md shows what is compiled here; it is made from a file that these tests hold to the code.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import yaml

from cvperf.backends.triton import offline, shipped
from cvperf.backends.triton.configs import forcing
from cvperf.backends.triton.layouts import packed_int8_shape
from cvperf.backends.triton.model import ARCHITECTURES
from cvperf.benchmarks import gpu, gpu_compiled, gpu_page
from cvperf.kernels.triton import compat

BUDGETS = yaml.safe_load((gpu.ROOT / "kernels/triton/budgets.yaml").read_text())
CALLS = list(shipped.calls())
VERSION, FACTS = gpu_compiled.read(gpu.ROOT / gpu_page.COMPILED)


def budget_of(kernel: str, call: shipped.Call) -> dict[str, dict[str, Any]]:
    """The limits under ``kernel (few)`` if the call's name begins with "few", else ``kernel``."""
    for name, limits in BUDGETS.items():
        if name.startswith(f"{kernel} (") and call.name.startswith(name.split("(")[1].rstrip(")")):
            return limits
    return BUDGETS[kernel]


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.op}: {call.name}")
def test_it_compiles_within_its_budget(call: shipped.Call, capability: int) -> None:
    with offline.compiling(capability) as compiled:
        call.run()
    assert compiled, "the call launched nothing"
    for one in compiled:
        what = f"{one.kernel} on sm_{capability} with {one.constexprs}"
        budget = budget_of(one.kernel, call)[f"sm_{capability}"]
        assert one.stack == 0, f"{what}: spills, {one.stack} bytes of stack"
        assert one.registers <= budget["registers"], f"{what}: {one.registers} registers"
        assert one.shared <= budget["shared"], f"{what}: {one.shared} bytes of shared memory"
        wanted = set(budget.get("opcodes", ())) - set(compat.NOT_ISSUED)
        missing = [opcode for opcode in wanted if not one.has(opcode)]
        assert not missing, f"{what}: no {missing}; it has {one.notable}"
    if triton.__version__ == VERSION:  # another version compiles to other registers
        shown = [fact for fact in FACTS if (fact.op, fact.call) == (call.op, call.name)]
        assert gpu_compiled.facts(call, capability, compiled) == [
            fact for fact in shown if fact.capability == capability
        ], "docs/gpu.md shows something else: python -m cvperf.benchmarks.gpu --compile"


@pytest.mark.skipif("CVPERF_TEST_ALL" not in os.environ, reason="CVPERF_TEST_ALL=1: a minute more")
@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("op", ["int8_gemm", "int4_linear"])
def test_every_candidate_of_autotuning_fits_without_spills(op: str, capability: int) -> None:
    backend = importlib.import_module(f"cvperf.backends.triton.{op}")
    machine = ARCHITECTURES[capability]
    for config in backend.SPACE.candidates(machine):
        with offline.compiling(capability) as compiled, forcing(config):
            layers_of(op)()
        for one in compiled:
            assert one.stack == 0, f"{one.kernel} on sm_{capability} spills with {config}"
            assert one.shared <= machine.shared_bytes, f"{one.shared} bytes with {config}"
            assert one.shared <= backend.SPACE.shared_bytes(config), f"{one.shared} with {config}"


def layers_of(op: str) -> Callable[[], object]:
    """A call of every epilogue's kind, large enough for any configuration."""
    n, k = 4096, 4096
    meta = shipped.meta
    if op == "int8_gemm":
        from cvperf.backends.triton.int8_gemm import int8_gemm

        a, b = meta(2048, k, dtype=torch.int8), meta(*packed_int8_shape(k, n), dtype=torch.int8)
        rest = (meta(2048), meta(n), None, meta(n), "silu", torch.float32)
        return lambda: int8_gemm(a, b, n, *rest)
    from cvperf.backends.triton.int4_linear import int4_linear

    half = {"dtype": torch.bfloat16}
    x, weight = meta(2048, k, **half), meta(n, k // 2, dtype=torch.uint8)
    zero = meta(n, k // 32, dtype=torch.int8)
    return lambda: int4_linear(x, weight, meta(n, k // 32, **half), zero, meta(n, **half), "silu")


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_every_budget_is_of_a_kernel_that_ships(capability: int) -> None:
    shown = {fact.kernel for fact in FACTS if fact.capability == capability}
    listed = {name for name, limits in BUDGETS.items() if f"sm_{capability}" in limits}
    assert shown == {name.split(" ")[0] for name in listed}


def test_no_call_is_shown_that_does_not_ship() -> None:
    names = [(call.op, call.name) for call in CALLS]
    assert len(set(names)) == len(names)
    shown = {(fact.op, fact.call) for fact in FACTS}
    assert shown == set(names), "write it anew: python -m cvperf.benchmarks.gpu --compile"
