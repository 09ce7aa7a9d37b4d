"""Linear layers whose weights alone are integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import cvperf
from cvperf.quant.steps import fitted, symmetric


class Net(nn.Module):
    """A patch layer, rows of tokens, and a head whose answers are no sixteens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 128, 8, 8)
        self.body = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128, bias=False))
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head((x + self.body(x)).mean(1))


def rounded(weight: Tensor, bits: int, group_size: int, dtype: torch.dtype) -> Tensor:
    groups = weight if bits == 8 else weight.reshape(-1, group_size)
    _, scale = symmetric(groups, 127) if bits == 8 else fitted(groups, 7)
    scale, most = scale.to(dtype).float().view(-1, 1), 2 ** (bits - 1) - 1
    return ((groups / scale).round().clamp(-most, most) * scale).view_as(weight)


@pytest.fixture
def net() -> nn.Module:
    return Net().eval()


@pytest.mark.parametrize(("bits", "group_size"), [(8, 64), (4, 32), (4, 64), (4, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_answer_is_that_of_rounded_weights(
    net: nn.Module, bits: int, group_size: int, dtype: torch.dtype
) -> None:
    config = cvperf.WeightOnlyConfig(bits=bits, group_size=group_size, dtype=dtype)
    fast = cvperf.optimize(net, config)
    whole = cvperf.optimize(net)
    before = net.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    images = [torch.rand(count, 3, size, size) for count, size in ((1, 32), (3, 32), (5, 48))]
    found = [fast(image) for image in images]
    plain = [whole(image) for image in images]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(rounded(module.weight, bits, group_size, dtype))
        for image, answer, exact in zip(images, found, plain, strict=True):
            expected = net(image)
            near = 2e-5 if dtype == torch.float32 else 5e-3
            torch.testing.assert_close(answer, expected, atol=near, rtol=near)
            assert (answer - exact).abs().max() > 1e-4, "its weights are not those of the model"


@pytest.mark.parametrize(("bits", "kernel"), [(8, "int8pack"), (4, "int4pack")])
def test_weights_take_less(net: nn.Module, bits: int, kernel: str) -> None:
    image = torch.rand(1, 3, 32, 32)
    whole = cvperf.optimize(net, example_inputs=image).explain().plans[0]
    fast = cvperf.optimize(net, cvperf.WeightOnlyConfig(bits=bits), image).explain().plans[0]
    assert sum(count for name, count in fast.torch.items() if kernel in name) == 3
    assert "linear" not in fast.ours
    linear = 4 * sum(each.weight.numel() for each in net.modules() if isinstance(each, nn.Linear))
    saved = whole.weight_bytes - fast.weight_bytes
    assert saved > linear * (0.7 if bits == 8 else 0.8)
    more = 0 if bits == 8 else 2 * 128 * (16 - 10)  # the head's rows are made up to 16
    assert fast.work + fast.torch_work == whole.work + more, "what torch multiplies counts too"
    assert f"weights {fast.weight_bytes / 1e6:.1f} MB" in str(fast)


def test_what_does_not_fit_stays_float() -> None:
    model = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 50), nn.Linear(50, 7)).eval()
    rows = torch.randn(2, 96)
    config = cvperf.WeightOnlyConfig(bits=4, group_size=64)
    found = cvperf.optimize(model, config, rows).explain().plans[0]
    assert found.ours["linear"] == 2  # 96 and 50 columns are no groups of 64
    skipping = cvperf.WeightOnlyConfig(skip=("0", "3"))
    found = cvperf.optimize(model, skipping, rows).explain().plans[0]
    assert found.ours["linear"] == 2
    found = cvperf.optimize(model.double(), cvperf.WeightOnlyConfig(), rows.double()).explain()
    assert not found.plans[0].torch.get("aten::_weight_int8pack_mm")


def test_no_rows_and_rows_with_gaps(net: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(64, 20)).eval()
    for bits in (8, 4):
        fast = cvperf.optimize(model, cvperf.WeightOnlyConfig(bits=bits))
        wide = torch.randn(6, 128)
        torch.testing.assert_close(fast(wide[::2, ::2]), fast(wide[::2, ::2].contiguous()))
        assert fast(torch.randn(64)).shape == (20,)
        assert fast(torch.randn(0, 64)).shape == (0, 20)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(cvperf.ArgumentError, match="bits must be 4 or 8, got 2"):
        cvperf.WeightOnlyConfig(bits=2)
    with pytest.raises(cvperf.ArgumentError, match="group_size must be 32, 64 or 128, got 48"):
        cvperf.WeightOnlyConfig(group_size=48)
    with pytest.raises(cvperf.ArgumentError, match="dtype must be bfloat16 or float32"):
        cvperf.WeightOnlyConfig(dtype=torch.float16)
    with pytest.raises(TypeError, match="skip must be a tuple of names"):
        cvperf.WeightOnlyConfig(skip="head")
