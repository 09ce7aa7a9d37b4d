"""What ships compiles for every architecture, without spills and within its budget. No GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cvperf.backends.triton import offline, shipped

ROOT = Path(__file__).resolve().parents[3]
BUDGETS = yaml.safe_load((ROOT / "kernels/triton/budgets.yaml").read_text())
CALLS = list(shipped.calls())


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
        missing = [
            either
            for either in budget.get("opcodes", ())
            if not any(one.has(opcode) for opcode in either.split("|"))
        ]
        assert not missing, f"{what}: no {missing}; it has {one.notable}"


def test_the_names_of_the_calls_tell_them_apart() -> None:
    names = [(call.op, call.name) for call in CALLS]
    assert len(set(names)) == len(names)
