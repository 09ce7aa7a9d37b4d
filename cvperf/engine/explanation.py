"""Who runs what in a plan, in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cvperf.engine.plan import Plan
from cvperf.engine.steps import NativeStep, TorchStep


@dataclass(frozen=True)
class PlanExplanation:
    """One plan: its steps, who runs them, and its memory.

    Attributes:
        inputs: shape and dtype of each tensor it is for.
        ours: our kernels by name, how many steps each.
        torch: torch's operators by name, how many steps each.
        work: operations of the convolutions and matrix products that our kernels run.
        torch_work: those that torch runs.
        arena_bytes: what all values between the steps take together.
        weight_bytes: what the fixed tensors that they read take, in every form that is kept.
    """

    inputs: tuple[str, ...]
    ours: dict[str, int]
    torch: dict[str, int]
    work: int
    torch_work: int
    arena_bytes: int
    weight_bytes: int

    @property
    def covered(self) -> float:
        """Share of those operations that our kernels run; 1 where there are none."""
        total = self.work + self.torch_work
        return self.work / total if total else 1.0

    def __str__(self) -> str:
        lines = [
            f"plan for {', '.join(self.inputs)}: {self.covered:.1%} of "
            f"{(self.work + self.torch_work) / 1e9:.2f} GFLOP on our kernels, arena "
            f"{self.arena_bytes / 1e6:.1f} MB, weights {self.weight_bytes / 1e6:.1f} MB"
        ]
        for who, names in (("cvperf", self.ours), ("torch", self.torch)):
            lines += [f"  {who:7} {count:4} x {name}" for name, count in sorted(names.items())]
        return "\n".join(lines)


def explain_plan(plan: Plan) -> PlanExplanation:
    """What a plan does."""
    ours: Counter[str] = Counter()
    others: Counter[str] = Counter()
    work = torch_work = 0
    for step in plan.program.steps:
        if isinstance(step, NativeStep):
            ours[step.name] += 1
            work += step.work
        elif isinstance(step, TorchStep):
            others[step.name] += 1
            torch_work += step.work
    inputs = tuple(
        f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        for value in plan.program.inputs
    )
    return PlanExplanation(
        inputs, dict(ours), dict(others), work, torch_work, plan.arena_bytes, _weight_bytes(plan)
    )


def _weight_bytes(plan: Plan) -> int:
    fixed = {
        value.buffer.tensor.data_ptr(): value.buffer.bytes
        for step in plan.program.steps
        for value in step.read
        if value is not None and value.buffer.tensor is not None
    }
    return sum(fixed.values())
