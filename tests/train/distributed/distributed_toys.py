"""What the tests of distributed training train: small networks on random pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PICTURES = (1, 12, 12)


class Residual(nn.Module):
    """A block with a way around it, so that cutting a network is more than cutting a list."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


def network(norm: bool = True) -> nn.Sequential:
    """A classifier of 10 classes; the same weights at each call."""
    torch.manual_seed(0)
    blocks = [Residual(8), Residual(8)] if norm else [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *blocks, nn.MaxPool2d(2))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 10))


def pictures(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random pictures and classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, *PICTURES, generator=generator)
    return images, torch.randint(10, (count,), generator=generator)


def gradients(
    model: nn.Module, images: Tensor, targets: Tensor, parts: int = 1
) -> dict[str, Tensor]:
    """Of the mean loss over a batch, by name; batch norm sees the batch in ``parts``."""
    for some, classes in zip(images.chunk(parts), targets.chunk(parts), strict=True):
        (nn.functional.cross_entropy(model(some), classes) / parts).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def furthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative error (2-norm) among gradients of the same names."""
    assert found.keys() == expected.keys()
    return max(
        float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected
    )
