"""What the transforms of this folder share: they change pixels with a probability, never boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from cvperf.errors import ArgumentError, check_number, describe


def is_plain(value: object) -> bool:
    """Whether a value is a tensor that does not say what it is of."""
    return isinstance(value, Tensor) and not isinstance(value, tv_tensors.TVTensor)


class PixelTransform(v2.Transform):  # type: ignore[misc]
    """Changes images, uint8 [C, H, W], with probability ``p``; all else passes through.

    A subclass draws its random numbers in :meth:`draw`, from torch's generator as all of v2 does,
    and uses them in :meth:`change`.
    """

    # Boxes are tensors as well, so what is an image is said. Where a sample has a tv_tensors.Image,
    # v2 lets plain tensors pass: they are labels.
    _transformed_types: tuple[Any, ...] = (tv_tensors.Image, is_plain)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__()
        check_number("p", p, "a probability, 0 to 1")
        if not 0 <= p <= 1:
            raise ArgumentError(f"p must be a probability, 0 to 1, got {p}")
        self.p = p

    def draw(self, channels: int, height: int, width: int) -> dict[str, Any]:
        """The random numbers for one image."""
        return {}

    def change(self, image: Tensor, **drawn: Any) -> Tensor:
        """The image changed, of the same shape and dtype."""
        raise NotImplementedError

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        images = [one for one in flat_inputs if not isinstance(one, tv_tensors.Mask)]
        if not images or (self.p < 1 and torch.rand(()) >= self.p):
            return {"drawn": None}
        image = images[0]
        if image.dtype != torch.uint8 or image.dim() != 3:
            raise ArgumentError(
                f"{type(self).__name__} needs an image uint8 [C, H, W], got {describe(image)}. "
                "Put to_float last"
            )
        return {"drawn": self.draw(*image.shape)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if params["drawn"] is None:
            return inpt
        changed = self.change(inpt.as_subclass(Tensor), **params["drawn"])
        return changed if is_plain(inpt) else tv_tensors.wrap(changed, like=inpt)


def uniform(low: float, high: float, *size: int) -> Tensor:
    """float32 numbers between ``low`` and ``high``."""
    return torch.empty(size).uniform_(low, high)


def to_bytes(pixels: Tensor) -> Tensor:
    """Rounded, cut to 0 to 255, uint8."""
    return pixels.round().clamp(0, 255).to(torch.uint8)


def check_range(name: str, value: object, low: float, high: float) -> tuple[float, float]:
    """``value`` as two numbers in order, within ``low`` and ``high``."""
    numbers = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(numbers) != 2 or not all(isinstance(number, (int, float)) for number in numbers):
        raise ArgumentError(f"{name} must be a number or two, [least, most]; got {describe(value)}")
    if not low <= numbers[0] <= numbers[1] <= high:
        raise ArgumentError(f"{name} must be within {low} and {high}, in order; got {numbers}")
    return numbers
