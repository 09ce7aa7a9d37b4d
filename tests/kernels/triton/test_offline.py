"""What ships compiles for every architecture, without spills and within its budget. No GPU.

docs/gpu.md shows what is compiled here; it is made from a file that these tests hold to the code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from cvperf.backends.gpu.configs import Space, forcing
from cvperf.backends.gpu.layouts import packed_int8_shape
from cvperf.backends.gpu.model import ARCHITECTURES
from cvperf.backends.gpu.shipped import Call, meta
from cvperf.backends.triton import offline, shipped
from cvperf.kernels.triton import compat
from tests.kernels.budgets import Budgets

BUDGETS = Budgets("triton")
CALLS = list(shipped.calls())
# The budgets are of that version and later ones; 3.6 takes more registers for the same source.
OLDER = tuple(map(int, BUDGETS.compiler.split()[1].split(".")[:2])) > compat.VERSION


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.op}: {call.name}")
def test_it_compiles_within_its_budget(call: Call, capability: int) -> None:
    with offline.compiling(capability) as compiled:
        call.run()
    BUDGETS.check(call, capability, compiled, sizes=not OLDER, not_issued=compat.NOT_ISSUED)


def test_what_is_shown_and_limited_is_what_ships() -> None:
    BUDGETS.check_names(CALLS)


@dataclass(frozen=True)
class Searched:
    """A search space, and a call that any of its configurations can serve."""

    space: Space
    run: Callable[[], Any]


def searched() -> dict[str, Searched]:
    """Every search space of autotuning."""
    from cvperf.backends.triton import (
        conv2d_plan,
        int4_linear,
        int8_gemm,
        nms_model,
        roi_align_backward,
        roi_rows,
    )

    run_of = {f"{call.op}: {call.name}": call.run for call in CALLS}
    layer = "3x3 128-128 28x28 n32"
    convolutions = {
        "conv2d": conv2d_plan.FORWARD,
        "conv2d_input_grad": conv2d_plan.INPUT_GRAD,
        "conv2d_weight_grad": conv2d_plan.WEIGHT_GRAD,
    }
    found = {
        f"{op} float16": Searched(spaces["half"], run_of[f"{op}: {layer} float16"])
        for op, spaces in convolutions.items()
    }
    first = "7x7 3-64 224x224 s2 n32 float16"
    return found | {
        "conv2d tf32": Searched(conv2d_plan.FORWARD["tf32"], run_of[f"conv2d: {layer} float32"]),
        "conv2d float32": Searched(
            conv2d_plan.FORWARD["float32"], run_of[f"conv2d: {layer} float32 precise"]
        ),
        "conv2d int8": Searched(
            conv2d_plan.FORWARD["int8"], run_of[f"conv2d_int8: int8 {layer} uint8"]
        ),
        "conv2d of few channels": Searched(conv2d_plan.FLAT["half"], run_of[f"conv2d: {first}"]),
        "int8_gemm": Searched(int8_gemm.SPACE, every_epilogue_of_int8),
        "int4_linear": Searched(int4_linear.SPACE, every_epilogue_of_int4),
        "nms": Searched(nms_model.PAIRS, run_of["nms_padded: 8 images of 10,000, half"]),
        "roi_align": Searched(roi_rows.SPACE, run_of["roi_align: channels last, float16"]),
        "roi_align_backward": Searched(
            roi_align_backward.SPACE, run_of["roi_align_backward: channels last, float16"]
        ),
    }


def every_epilogue_of_int8() -> None:
    from cvperf.backends.triton.int8_gemm import int8_gemm

    n, k = 4096, 4096
    a, b = meta(2048, k, dtype=torch.int8), meta(*packed_int8_shape(k, n), dtype=torch.int8)
    int8_gemm(a, b, n, meta(2048), meta(n), None, meta(n), "silu", torch.float32)


def every_epilogue_of_int4() -> None:
    from cvperf.backends.triton.int4_linear import int4_linear

    n, k = 4096, 4096
    half = {"dtype": torch.bfloat16}
    x, weight = meta(2048, k, **half), meta(n, k // 2, dtype=torch.uint8)
    zero = meta(n, k // 32, dtype=torch.int8)
    int4_linear(x, weight, meta(n, k // 32, **half), zero, meta(n, **half), "silu")


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("name", searched())
def test_every_candidate_of_autotuning_fits_without_spills(name: str, capability: int) -> None:
    one = searched()[name]
    machine = ARCHITECTURES[capability]
    wrong = []
    for config in one.space.candidates(machine):
        with offline.compiling(capability) as compiled, forcing(config):
            one.run()
        wrong += [
            f"{config}: {found.kernel} spills {found.stack} bytes, shared {found.shared}"
            for found in compiled
            if found.stack or found.shared > machine.shared_bytes
        ]
    assert not wrong, "leave out\n" + "\n".join(wrong)
