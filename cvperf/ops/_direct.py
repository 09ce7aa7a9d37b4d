"""Whether a call may go straight to its kernel, past torch's dispatcher.

The dispatcher, its autograd layer and the argument boxing cost 15 to 100 microseconds a call from
Python, more than a small kernel. They have something to do only when a tensor or the surroundings
ask for it: a gradient, a trace, a transform, a mode, a subclass, a profiler. ``ordinary`` says that
none of them does; then the dispatcher would run the same kernel on the same tensors.
"""

from __future__ import annotations

from typing import Any

import torch

from cvperf import _C


def ordinary(*arguments: Any) -> bool:
    """True if no tensor among the arguments, and nothing around the call, needs the dispatcher.

    False as well in a torch that lacks what this is found out with: every call takes the dispatcher
    then, and tests/ops/test_direct.py fails so that somebody notices.
    """
    return not torch.compiler.is_compiling() and _C.ordinary(*arguments)
