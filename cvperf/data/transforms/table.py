"""Every transform that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torchvision.transforms import v2

from cvperf.data.transforms.clahe import CLAHE
from cvperf.data.transforms.color import ChannelShift, ColorCast
from cvperf.data.transforms.geometry import BoxesFromMasks, Elastic, RandomCrop, SanitizeBoxes
from cvperf.data.transforms.jpeg import RandomJPEG
from cvperf.data.transforms.occluder import RandomOccluder
from cvperf.data.transforms.shadow import RandomShadow


@dataclass(frozen=True)
class Known:
    """A transform, what it does in a line, and where our defaults are not the class's own."""

    make: Callable[..., v2.Transform]
    does: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


def to_float(mean: Any, std: Any) -> v2.Transform:
    """uint8 [C, H, W] to float32 of about mean 0: divided by 255, less ``mean``, over ``std``.

    Args:
        mean: of each channel, on the scale of 0 to 1.
        std: as ``mean``.
    """
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])


KNOWN: dict[str, Known] = {
    # Geometry: boxes and masks go along.
    "horizontal_flip": Known(v2.RandomHorizontalFlip, "mirrors left and right"),
    "vertical_flip": Known(v2.RandomVerticalFlip, "mirrors top and bottom"),
    "rotation": Known(v2.RandomRotation, "turns by up to `degrees`", {"degrees": 15}),
    "translation": Known(
        v2.RandomAffine,
        "moves by up to a share `translate` of width and height",
        {"degrees": 0, "translate": (0.1, 0.1)},
    ),
    "scale": Known(
        v2.RandomAffine,
        "enlarges by a factor of `scale` within the same frame",
        {"degrees": 0, "scale": (0.8, 1.2)},
    ),
    "affine": Known(
        v2.RandomAffine,
        "turns, moves, scales and shears at once",
        {"degrees": 10, "translate": (0.1, 0.1), "scale": (0.9, 1.1), "shear": 5},
    ),
    "perspective": Known(v2.RandomPerspective, "looks from another side"),
    "elastic": Known(Elastic, "bends smoothly, as ink on rubber"),
    "random_crop": Known(RandomCrop, "cuts out a place; after `padding`, of the same size"),
    "random_resized_crop": Known(
        v2.RandomResizedCrop, "cuts out a part of random size and shape, resized to `size`"
    ),
    "iou_crop": Known(v2.RandomIoUCrop, "cuts out a part that keeps some boxes (detection)"),
    "center_crop": Known(v2.CenterCrop, "cuts out the middle"),
    "pad": Known(v2.Pad, "adds a border of `padding` pixels"),
    "zoom_out": Known(v2.RandomZoomOut, "puts the picture on a larger canvas"),
    "resize": Known(v2.Resize, "resizes to `size`; one number is the shorter side"),
    "scale_jitter": Known(v2.ScaleJitter, "resizes around `target_size` at random"),
    "shortest_size": Known(
        v2.RandomShortestSize, "resizes so that the shorter side is one of `min_size`"
    ),
    "sanitize_boxes": Known(SanitizeBoxes, "drops objects whose boxes a crop left without area"),
    "boxes_from_masks": Known(BoxesFromMasks, "makes boxes tight around the masks"),
    # Colour and light.
    "color_jitter": Known(
        v2.ColorJitter, "changes `brightness`, `contrast`, `saturation` and `hue`"
    ),
    "brightness": Known(v2.ColorJitter, "changes brightness", {"brightness": 0.3}),
    "contrast": Known(v2.ColorJitter, "changes contrast", {"contrast": 0.3}),
    "saturation": Known(v2.ColorJitter, "changes saturation", {"saturation": 0.3}),
    "hue": Known(v2.ColorJitter, "changes hue; 0.5 is the whole circle", {"hue": 0.05}),
    "photometric_distort": Known(
        v2.RandomPhotometricDistort, "colour jitter as SSD was trained with"
    ),
    "random_grayscale": Known(v2.RandomGrayscale, "grey with probability `p`, channels kept"),
    "grayscale": Known(v2.Grayscale, "grey, always; `num_output_channels` is 1 or 3"),
    "rgb": Known(v2.RGB, "three channels: grey ones are repeated"),
    "channel_shift": Known(ChannelShift, "adds up to `limit` greys to each channel"),
    "channel_permutation": Known(v2.RandomChannelPermutation, "swaps channels"),
    "color_cast": Known(ColorCast, "light of another colour"),
    "equalize": Known(v2.RandomEqualize, "histogram equalisation, each channel"),
    "clahe": Known(CLAHE, "histogram equalisation by tiles, contrast limited"),
    "autocontrast": Known(v2.RandomAutocontrast, "spreads each channel over all greys"),
    "invert": Known(v2.RandomInvert, "negative"),
    "posterize": Known(v2.RandomPosterize, "keeps `bits` bits a channel", {"bits": 4}),
    "solarize": Known(v2.RandomSolarize, "inverts what is above `threshold`", {"threshold": 128}),
    "shadow": Known(RandomShadow, "a shadow with a soft edge"),
    # Noise, sharpness, things in front.
    "gaussian_noise": Known(
        v2.GaussianNoise, "noise; `sigma` on the scale of 0 to 1", {"sigma": 0.05}
    ),
    "gaussian_blur": Known(v2.GaussianBlur, "blur", {"kernel_size": 5}),
    "sharpness": Known(
        v2.RandomAdjustSharpness, "sharper (or softer, below 1)", {"sharpness_factor": 2}
    ),
    "jpeg": Known(RandomJPEG, "traces of JPEG at `quality`"),
    "cutout": Known(v2.RandomErasing, "erases a rectangle"),
    "occluder": Known(RandomOccluder, "pastes a patch over a place"),
    # Policies from papers.
    "auto_augment": Known(v2.AutoAugment, "the policy learned on ImageNet (no boxes)"),
    "rand_augment": Known(v2.RandAugment, "`num_ops` changes of one `magnitude` (no boxes)"),
    "trivial_augment": Known(v2.TrivialAugmentWide, "one change of random strength (no boxes)"),
    "aug_mix": Known(v2.AugMix, "a mixture of chains of changes (no boxes)"),
    # The end of a recipe.
    "to_float": Known(to_float, "uint8 to float32, normalised by `mean` and `std`"),
}
