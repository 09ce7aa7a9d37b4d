"""A graph holds for the calls that it says it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cvperf.engine import CaptureError, capture


class Nested(nn.Module):
    """Arguments and answers in containers, a flag, an argument that may be left out."""

    def forward(self, images: dict[str, Any], *, scale: float = 2.0, flip: bool = False) -> Any:
        x = images["one"] * scale + images["others"][0]
        return {"sum": x.flip(0) if flip else x, "parts": [x + 1, 5]}


def images(*shape: int) -> dict[str, Any]:
    return {"one": torch.rand(shape), "others": [torch.rand(shape)]}


def test_sizes_that_were_seen_to_vary_are_open() -> None:
    model = nn.Conv2d(3, 4, 3)
    first = capture(model, (torch.rand(4, 3, 12, 12),), {})
    assert first.takes((torch.rand(4, 3, 12, 12),), {})
    assert not first.takes((torch.rand(5, 3, 12, 12),), {})
    tall = capture(model, (torch.rand(4, 3, 20, 12),), {}, [first])
    assert tall.takes((torch.rand(4, 3, 31, 12),), {})
    assert not tall.takes((torch.rand(5, 3, 31, 12),), {})
    captured = capture(model, (torch.rand(2, 3, 10, 10),), {}, [first, tall])
    assert captured.takes((torch.rand(5, 3, 33, 21),), {})
    assert not captured.takes((torch.rand(2, 4, 10, 10),), {}), "the channels are the weight's"
    assert not captured.takes((torch.rand(1, 3, 10, 10),), {}), "1 has a meaning of its own"
    assert not captured.takes((torch.rand(3, 10, 10),), {})
    assert not captured.takes((torch.rand(2, 3, 10, 10).double(),), {})
    assert not captured.takes((), {})


def test_sizes_that_must_be_equal_stay_so() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y.t()

    first = capture(Sum(), (torch.rand(2, 3), torch.rand(3, 2)), {})
    captured = capture(Sum(), (torch.rand(4, 6), torch.rand(6, 4)), {}, [first])
    assert captured.takes((torch.rand(9, 7), torch.rand(7, 9)), {})
    assert not captured.takes((torch.rand(9, 7), torch.rand(7, 8)), {})


def test_comparisons_of_sizes_are_kept() -> None:
    class Pads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.shape[2] % 2 == 0 and x.shape[3] > x.shape[2] else x[..., 1:]

    first = capture(Pads(), (torch.rand(2, 3, 8, 16),), {})
    captured = capture(Pads(), (torch.rand(2, 3, 10, 20),), {}, [first])
    assert captured.takes((torch.rand(2, 3, 6, 12),), {})
    assert not captured.takes((torch.rand(2, 3, 7, 12),), {}), "odd"
    assert not captured.takes((torch.rand(2, 3, 12, 6),), {}), "upright"


def test_what_is_no_tensor_is_part_of_the_graph() -> None:
    first = capture(Nested(), (images(2, 3),), {"flip": True})
    captured = capture(Nested(), (images(3, 4),), {"flip": True}, [first])
    assert captured.takes((images(4, 5),), {"flip": True})
    assert not captured.takes((images(4, 5),), {"flip": False})
    assert not captured.takes((images(4, 5),), {"flip": 1}), "1 is not True"
    assert not captured.takes((images(4, 5),), {})
    assert not captured.takes(({"one": torch.rand(2, 3)},), {"flip": True})


def test_values_that_decide_are_refused() -> None:
    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    class Selects(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x > 0.5]

    for model in (Decides(), Selects()):
        with pytest.raises(CaptureError, match=r"data-dependent|depends on values"):
            capture(model, (torch.rand(4, 4),), {})
