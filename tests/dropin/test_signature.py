"""Calls that go to the original are decided once, and anew when what decides has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import cvperf
from cvperf.dropin import crossover, ledger, switch
from cvperf.dropin.overrides import OVERRIDES
from cvperf.dropin.signature import signature


def pointwise(layout: torch.memory_format = torch.channels_last) -> tuple[Tensor, Tensor]:
    """A layer that torch keeps."""
    image, weight = torch.randn(1, 16, 8, 8), torch.randn(16, 16, 1, 1)
    return image.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)


def test_a_layer_is_decided_once_and_counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    first, *others = OVERRIDES["conv2d"]

    def unfit(*args: object) -> str | None:
        asked.append(args)
        return first.unfit(*args)

    monkeypatch.setitem(switch.OVERRIDES, "conv2d", (replace(first, unfit=unfit), *others))
    cvperf.explain(reset=True)
    image, weight = pointwise()
    with cvperf.use("conv2d"):
        answers = [F.conv2d(image, weight) for _ in range(3)]
        assert len(asked) == 1
        F.conv2d(image[:, :, :4], weight)
        assert len(asked) == 2
    (row,) = (row for row in cvperf.explain().rows if row.op == "aten::convolution")
    assert (row.calls, row.backend) == (4, ledger.ORIGINAL)
    assert row.flop == 2 * 16 * 16 * (3 * 64 + 32)
    assert all(torch.equal(answer, F.conv2d(image, weight)) for answer in answers)


def test_what_decides_is_in_the_signature() -> None:
    image, weight = pointwise()
    alike = signature([image, weight, [1, 1], None, True])
    assert alike == signature([torch.zeros_like(image), weight, [1, 1], None, True])
    others = [
        [image.contiguous(), weight, [1, 1], None, True],
        [image.double(), weight, [1, 1], None, True],
        [image, weight, [2, 1], None, True],
        [image, weight, [1, 1], weight, True],
        [image._lazy_clone(), weight, [1, 1], None, True],
    ]
    assert all(signature(other) != alike for other in others)
    with crossover.ignored():
        assert signature([image, weight, [1, 1], None, True]) != alike
    assert signature([image.to_sparse(), weight]) is None


def test_measuring_decides_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPERF_AUTOTUNE", "1")
    assert signature(pointwise()) is None
