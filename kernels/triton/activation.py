"""The activations that an epilogue fuses, by name; NaN passes through as it does in torch."""

import triton
import triton.language as tl


@triton.jit
def activate(x, NAME: tl.constexpr):
    """The activation of float32 values; None passes them on."""
    if NAME == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif NAME == "relu6":
        x = tl.where(x < 0, 0.0, tl.where(x > 6, 6.0, x))
    elif NAME == "silu":
        x = x * tl.sigmoid(x)
    elif NAME == "hardswish":
        gate = x + 3
        x = x * tl.where(gate < 0, 0.0, tl.where(gate > 6, 6.0, gate)) * (1 / 6)
    elif NAME == "sigmoid":
        x = tl.sigmoid(x)
    elif NAME == "leaky_relu":
        x = tl.where(x < 0, x * 0.01, x)
    return x
