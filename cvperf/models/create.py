"""A classifier by its name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cvperf.errors import ArgumentError
from cvperf.models.small import LeNet, SmallCNN

_OURS: Mapping[str, Callable[..., nn.Module]] = {"lenet": LeNet, "small_cnn": SmallCNN}
_TIMM = "timm/"


def known_models() -> list[str]:
    """Names that :func:`create_model` takes: ours, torchvision's, and timm's with ``timm/`` before.

    torchvision's and timm's are listed where these are installed.
    """
    return [*_OURS, *_torchvision_names(), *_timm_names()]


def create_model(name: str, classes: int, *, channels: int = 3, **options: Any) -> nn.Module:
    """A classifier with random weights: image [N, channels, H, W] to logits [N, classes].

    Args:
        name: ``"lenet"`` (28x28 images), ``"small_cnn"``, a classifier of torchvision
            (``"resnet18"``), or one of timm (``"timm/resnet18d"``).
        classes: how many logits.
        channels: of the image; the first convolution is made for that many.
        options: of the network's own constructor, such as ``dropout``.

    Raises:
        ArgumentError: the name is unknown, or the network takes no such option.
        ImportError: the name is timm's or torchvision's, and that is not installed.
    """
    try:
        if name in _OURS:
            return _OURS[name](classes=classes, channels=channels, **options)
        if name.startswith(_TIMM):
            return _from_timm(name, classes, channels, options)
        return _from_torchvision(name, classes, channels, options)
    except TypeError as error:  # an option that the constructor does not know
        raise ArgumentError(f"model {name!r}: {error}") from error


def _from_torchvision(name: str, classes: int, channels: int, options: dict[str, Any]) -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise _missing("torchvision", name) from error
    if name not in _torchvision_names():
        raise _unknown(name)
    if name == "inception_v3" or name == "googlenet":
        # Their side heads make the answer in training a tuple, which no loss here takes.
        options = {"aux_logits": False, "init_weights": True, **options}
    model = models.get_model(name, weights=None, num_classes=classes, **options)
    return model if channels == 3 else _with_channels(model, channels)


def _from_timm(name: str, classes: int, channels: int, options: dict[str, Any]) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise _missing("timm", name) from error
    if not timm.is_model(name.removeprefix(_TIMM)):
        raise _unknown(name)
    own = {"num_classes": classes, "in_chans": channels, **options}
    model: nn.Module = timm.create_model(name.removeprefix(_TIMM), pretrained=False, **own)
    return model


def _with_channels(model: nn.Module, channels: int) -> nn.Module:
    """The model with a first convolution for that many channels, freshly initialised."""
    name, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    made = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(name, made)
    return model


def _torchvision_names() -> list[str]:
    try:
        from torchvision import models
    except ImportError:
        return []
    return models.list_models(module=models)  # the classifiers, not detection's and so on


def _timm_names() -> list[str]:
    try:
        import timm
    except ImportError:
        return []
    return [_TIMM + name for name in timm.list_models()]


def _missing(package: str, name: str) -> ImportError:
    return ImportError(f"model {name!r} needs {package}: pip install 'cvperf[train]'")


def _unknown(name: str) -> ArgumentError:
    near = difflib.get_close_matches(name, known_models(), n=3, cutoff=0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    return ArgumentError(
        f"unknown model {name!r}{hint}. Known: {', '.join(_OURS)}, torchvision's classifiers, and "
        "timm's as timm/NAME"
    )
