"""``cvperf.prepare_qat``: a model to be trained on the integers of its plan."""

from __future__ import annotations

from torch import fx, nn

from cvperf.dropin.configs import Int8Config
from cvperf.errors import describe
from cvperf.quant.qat import prepare


def prepare_qat(model: nn.Module, config: Int8Config | None = None) -> fx.GraphModule:
    """A copy of a model that rounds in training what its INT8 plan rounds.

    Train it as the model itself, its own batch norm and dropout included, and give it to
    :func:`cvperf.optimize`: the plan computes with the very integers that were trained. Names of
    parameters stay, so that a trained model's state fits both ways.

    Args:
        model: float32, of convolutions (``torch.nn.Conv2d``); everything else stays float. torch.fx
            must be able to trace it; where it cannot, prepare the part that has the convolutions.
        config: ``skip`` and ``weight_bits`` count; nothing is calibrated.

    Returns:
        A module with the same call, on the same device and in the same mode. The ranges of its
        images are known after the first training step.

    Raises:
        ArgumentError: torch.fx cannot trace it, its own code asks whether it is trained, or it has
            no convolution to train.
        ImportError: torchao is not installed.
        TypeError: an argument is of the wrong type.

    Complexity: a training step takes about twice as long.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018.

    Example:
        >>> model = cvperf.prepare_qat(model, cvperf.Int8Config(weight_bits=4))
        >>> train(model)
        >>> fast = cvperf.optimize(model.eval(), cvperf.Int8Config(weight_bits=4))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")
    if config is not None and not isinstance(config, Int8Config):
        raise TypeError(f"config must be an Int8Config or None, got {describe(config)}")
    config = config or Int8Config()
    return prepare(model, config.takes, config.most)
