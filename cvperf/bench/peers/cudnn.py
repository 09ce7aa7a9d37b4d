"""cuDNN, called by torch, with its search for the fastest algorithm on.

Not yet run on hardware.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional as F

from cvperf.bench.contender import Contender
from cvperf.bench.peers.base import Peer
from cvperf.bench.peers.torch import ACTIVATIONS_IN_PLACE, gradient, inference
from cvperf.bench.problems.conv2d import Convolution, InputGrad, WeightGrad

_searching = partial(inference, benchmark=True)


def conv2d(problem: Convolution) -> Contender:
    """Bias and ReLU fused where cuDNN has that; another activation is a kernel after it."""
    p = problem
    finish = ACTIVATIONS_IN_PLACE[p.activation]
    if p.activation == "relu":
        fused = torch.cudnn_convolution_relu
        ready = Contender(lambda: fused(p.image, p.weight, p.bias, *p.geometry), context=_searching)
    else:
        ready = Contender(
            lambda: finish(F.conv2d(p.image, p.weight, p.bias, *p.geometry)), context=_searching
        )
    return _searched(ready)


def conv2d_gradient(problem: InputGrad | WeightGrad, which: int) -> Contender:
    eager = gradient(problem, which)
    return _searched(Contender(eager.run, context=_searching))


def _searched(contender: Contender) -> Contender:
    """After the first call, in which cuDNN tries its algorithms."""
    contender.once()
    return contender


def _library() -> str:
    return f"cudnn {torch.backends.cudnn.version()} in torch {torch.__version__}"


PEER = Peer(
    "cudnn",
    ("torch",),
    {
        "conv2d": conv2d,
        "conv2d_input_grad": partial(conv2d_gradient, which=0),
        "conv2d_weight_grad": partial(conv2d_gradient, which=1),
    },
    devices=("cuda",),
    library=_library,
)
