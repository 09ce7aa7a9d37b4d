"""Models with fused batch norms train as the plain ones do."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cvperf.nn import fuse_for_training


def block(taken: int, given: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(taken, given, 3, padding=1, bias=False), nn.BatchNorm2d(given), nn.ReLU(True)
    )


class UNet(nn.Module):
    """Two levels, and a functional dropout that minds the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = block(3, 12), block(12, 20)
        self.up, self.head = block(32, 12), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down(x)
        coarse = F.interpolate(self.bottom(F.max_pool2d(fine, 2)), scale_factor=2)
        up = self.up(torch.cat([fine, coarse], 1))
        return self.head(F.dropout(up, 0.5, training=self.training)).mean((2, 3))


def made(build: Callable[..., nn.Module], **keywords: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(**keywords).to(memory_format=torch.channels_last)


def step(model: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Loss, and the gradient of all parameters, of the same images with the same random numbers."""
    torch.manual_seed(1)
    images = torch.randn(4, 3, 48, 48).to(dtype, memory_format=torch.channels_last)
    torch.manual_seed(2)
    answer = model(images)
    logits = answer.logits if hasattr(answer, "logits") else answer
    loss = F.cross_entropy(logits[:, :2], torch.tensor([0, 1, 1, 0]))
    parameters = [each for each in model.parameters() if each.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.detach(), torch.cat([each.flatten() for each in grads if each is not None])


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (torchvision.models.resnet18, 20),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(width_mult=0.35, dropout=0.0), 52),
    "densenet": (lambda: torchvision.models.DenseNet(12, (2, 2, 2, 2)), 21),
    "googlenet": (
        lambda: torchvision.models.googlenet(weights=None, init_weights=False, dropout=0.0), 59
    ),
    "unet": (UNet, 3),
}  # fmt: skip


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", MODELS)
def test_loss_gradients_and_statistics_are_the_models(name: str) -> None:
    build, norms = MODELS[name]
    plain = made(build)
    fused = copy.deepcopy(plain)
    report = fuse_for_training(fused)
    assert (len(report.fused), report.left) == (norms, {})
    (loss, grad), (fused_loss, fused_grad) = step(plain), step(fused)
    assert abs(fused_loss - loss) <= 1e-4 * loss
    assert error(fused_grad, grad) <= 2e-2  # normalising few values enlarges roundings
    mine, theirs = fused.state_dict(), plain.state_dict()
    assert list(mine) == list(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-3, atol=1e-4)
    plain.eval(), fused.eval()
    fused.load_state_dict(theirs)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(fused(images), plain(images))


def test_chains_are_told() -> None:
    report = fuse_for_training(made(torchvision.models.resnet18))
    assert report.fused[:3] == ("bn1 + relu", "layer1.0.bn1 + relu", "layer1.0.bn2 + add + relu")
    assert "layer2.0.downsample.1" in report.fused
    assert str(report).startswith("20 batch norms fused, 0 left")


def test_copies_are_fused_and_state_can_be_pickled() -> None:
    fused = made(UNet)
    fuse_for_training(fused)
    twin = copy.deepcopy(fused)
    assert torch.equal(step(twin)[1], step(fused)[1])
    assert not torch.equal(twin.down[1].running_mean, torch.zeros(12))
    buffer = io.BytesIO()
    torch.save(fused.state_dict(), buffer)
    buffer.seek(0)
    made(UNet).load_state_dict(torch.load(buffer))
    assert isinstance(fused, UNet)


@pytest.mark.parametrize("settings", [{"momentum": None}, {"track_running_stats": False},
                                      {"affine": False}, {"eps": 0.1}], ids=str)  # fmt: skip
def test_settings_of_a_layer_are_minded(settings: dict[str, Any]) -> None:
    plain = nn.Sequential(nn.BatchNorm2d(6, **settings), nn.ReLU(inplace=True))
    fused = copy.deepcopy(plain)
    assert fuse_for_training(fused).fused == ("0 + relu",)
    for mode in (True, True, False):
        x = torch.randn(3, 6, 5, 4) * 2 + 1
        torch.testing.assert_close(fused.train(mode)(x), plain.train(mode)(x))
        torch.testing.assert_close(fused.state_dict(), plain.state_dict())


def test_a_frozen_layer_in_a_model_that_trains_keeps_its_statistics() -> None:
    plain = made(UNet)
    fused = copy.deepcopy(plain)
    fuse_for_training(fused)
    for model in (plain, fused):
        model.down[1].eval()
    (loss, grad), (fused_loss, fused_grad) = step(plain), step(fused)
    torch.testing.assert_close(fused_loss, loss)
    assert error(fused_grad, grad) <= 1e-3
    assert fused.down[1].num_batches_tracked == 0
    assert fused.up[1].num_batches_tracked == 1


class Net(nn.Module):
    """Two batch norms whose answers ``after`` puts together."""

    def __init__(self, after: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(True)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self, x * 1.5)


def used_twice(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    return y + net.relu(y)


def sum_used_twice(net: Any, x: Tensor) -> Tensor:
    y = net.first(x) + x
    return F.relu(y) + net.second(y)


def residual_changed_later(net: Any, x: Tensor) -> Tensor:
    side = x * 2
    y = F.relu(net.first(x) + side)
    side.mul_(3)
    return net.second(y) + side


def input_changed_between(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    x.add_(1)
    return F.relu(y) + x


def called_twice(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.first(F.relu(net.first(x))))


def two_norms_in_place(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    y += net.second(x * x)
    return net.relu(y)


def broadcast(net: Any, x: Tensor) -> Tensor:
    return F.relu6(net.first(x) + x.mean((2, 3), keepdim=True))


def trained(model: nn.Module, x: Tensor) -> tuple[Any, ...]:
    """Answer, the gradient of x or whether torch refuses it, and the state afterwards."""
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    try:
        (grad,) = torch.autograd.grad((y * torch.arange(6.0)).sum(), leaf)
    except RuntimeError as refusal:
        return y.detach(), "inplace operation" in str(refusal), model.state_dict()
    return y.detach(), grad, model.state_dict()


@pytest.mark.parametrize(
    ("after", "fused"),
    [
        (used_twice, ("first",)),
        (sum_used_twice, ("first + add", "second + add")),
        (residual_changed_later, ("first", "second")),
        (input_changed_between, ()),
        (called_twice, ()),
        (two_norms_in_place, ("first + add + relu", "second")),
        (broadcast, ("first + add + relu6",)),
    ],
)
def test_what_is_used_or_changed_elsewhere_stays_right(
    after: Callable[[nn.Module, Tensor], Tensor], fused: tuple[str, ...]
) -> None:
    plain = Net(after)
    ours = copy.deepcopy(plain)
    assert fuse_for_training(ours).fused == fused
    x = torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    results = [trained(model, x) for model in (plain, ours)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = block(3, 6), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.last(y) if y.sum() > 0 else y


def test_what_cannot_be_traced_is_left_and_named() -> None:
    plain = made(Untraceable)
    ours = copy.deepcopy(plain)
    report = fuse_for_training(ours)
    assert report.fused == ("body.1 + relu",)
    assert list(report.left) == ["last"]
    assert "the model cannot be traced" in report.left["last"]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ours(x), plain(x))


def test_layers_with_hooks_stay() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert fuse_for_training(model).left == {"0": "it has hooks"}
    model(torch.randn(2, 4, 3, 3))
    assert len(seen) == 1
