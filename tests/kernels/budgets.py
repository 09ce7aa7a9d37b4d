"""What a compiled kernel is held to: the limits of its backend's budgets.yaml, and docs/gpu.md."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.offline import Compiled
from cvperf.backends.gpu.shipped import Call
from cvperf.benchmarks import gpu, gpu_compiled


class Budgets:
    """The limits of a backend's kernels, and what docs/gpu.md shows of them."""

    def __init__(self, backend: str) -> None:
        folder = gpu.ROOT / "kernels" / backend
        limits = yaml.safe_load((folder / "budgets.yaml").read_text()) or {}
        self.limits: Mapping[str, Any] = limits
        self.compiler, self.facts = gpu_compiled.read(gpu.ROOT / gpu_compiled.FILES[backend])
        self.current = gpu_compiled.compiler(backend) == self.compiler
        """Whether the compiler is that of docs/gpu.md; another one takes other registers."""

    def check(
        self,
        call: Call,
        capability: int,
        compiled: Sequence[Compiled],
        sizes: bool = True,
        not_issued: Collection[str] = (),
    ) -> None:
        """Hold what a shipped call compiled to its limits and to what docs/gpu.md shows.

        Args:
            call: the call.
            capability: what it was compiled for.
            compiled: the kernels.
            sizes: whether to hold registers, spills and shared memory to the limits.
            not_issued: opcodes that this compiler has no use for.
        """
        assert compiled, "the call launched nothing"
        for one in compiled:
            what = f"{one.kernel} on sm_{capability} with {one.constexprs}"
            budget = self._of(one.kernel, call)[f"sm_{capability}"]
            if sizes:
                assert one.stack == 0, f"{what}: spills, {one.stack} bytes of stack"
                assert one.registers <= budget["registers"], f"{what}: {one.registers} registers"
                assert one.shared <= budget["shared"], f"{what}: {one.shared} bytes of shared"
            assert one.shared <= ARCHITECTURES[capability].shared_bytes, f"{what}: does not fit"
            wanted = set(budget.get("opcodes", ())) - set(not_issued)
            missing = [opcode for opcode in wanted if not one.has(opcode)]
            assert not missing, f"{what}: no {missing}; it has {one.notable}"
        if self.current:
            shown = [fact for fact in self.facts if (fact.op, fact.call) == (call.op, call.name)]
            assert gpu_compiled.facts(call, capability, compiled) == [
                fact for fact in shown if fact.capability == capability
            ], "docs/gpu.md shows something else: python -m cvperf.benchmarks.gpu --compile"

    def check_names(self, calls: Sequence[Call]) -> None:
        """Every call has a name of its own and is shown; every limit is of a kernel that ships."""
        names = [(call.op, call.name) for call in calls]
        assert len(set(names)) == len(names)
        shown = {(fact.op, fact.call) for fact in self.facts}
        assert shown == set(names), "write it anew: python -m cvperf.benchmarks.gpu --compile"
        for capability in ARCHITECTURES:
            kernels = {fact.kernel for fact in self.facts if fact.capability == capability}
            listed = {name for name, its in self.limits.items() if f"sm_{capability}" in its}
            assert kernels == {name.split(" ")[0] for name in listed}

    def _of(self, kernel: str, call: Call) -> Mapping[str, Any]:
        """The limits of ``kernel (few)`` if the call's name begins with "few", else ``kernel``."""
        for name, limits in self.limits.items():
            special = name.startswith(f"{kernel} (")
            if special and call.name.startswith(name.split("(")[1].rstrip(")")):
                found: Mapping[str, Any] = limits
                return found
        return self.limits[kernel]
