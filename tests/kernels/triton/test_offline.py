"""What ships compiles for every architecture, without spills and within its budget. No GPU.

docs/gpu.md shows what is compiled here; it is made from a file that these tests hold to the code.
"""

from __future__ import annotations

import pytest
import triton
import yaml

from cvperf.backends.triton import offline, shipped
from cvperf.benchmarks import gpu, gpu_compiled, gpu_page
from cvperf.kernels.triton import compat

BUDGETS = yaml.safe_load((gpu.ROOT / "kernels/triton/budgets.yaml").read_text())
CALLS = list(shipped.calls())
VERSION, FACTS = gpu_compiled.read(gpu.ROOT / gpu_page.COMPILED)


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.op}: {call.name}")
def test_it_compiles_within_its_budget(call: shipped.Call, capability: int) -> None:
    with offline.compiling(capability) as compiled:
        call.run()
    assert compiled, "the call launched nothing"
    for one in compiled:
        what = f"{one.kernel} on sm_{capability} with {one.constexprs}"
        budget = BUDGETS[one.kernel][f"sm_{capability}"]
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


def test_no_call_is_shown_that_does_not_ship() -> None:
    names = [(call.op, call.name) for call in CALLS]
    assert len(set(names)) == len(names)
    assert {(fact.op, fact.call) for fact in FACTS} == set(names)
