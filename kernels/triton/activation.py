"""The activations that kernels fuse, by the names that ``cvperf.ops`` takes."""

import triton
import triton.language as tl


@triton.jit
def activate(x, KIND: tl.constexpr):
    """``x`` in float32 through the activation called KIND; None passes it on."""
    if KIND == "relu":
        x = tl.where(x < 0.0, 0.0, x)  # keeps NaN, as torch does
    elif KIND == "relu6":
        x = tl.where(x < 0.0, 0.0, tl.where(x > 6.0, 6.0, x))
    elif KIND == "silu":
        x = x * tl.sigmoid(x)
    elif KIND == "hardswish":
        gate = x + 3.0
        gate = tl.where(gate < 0.0, 0.0, tl.where(gate > 6.0, 6.0, gate))
        x = x * gate * (1.0 / 6.0)
    elif KIND == "sigmoid":
        x = tl.sigmoid(x)
    elif KIND == "leaky_relu":
        x = tl.where(x < 0.0, 0.01 * x, x)
    else:
        tl.static_assert(KIND is None, "unknown activation")
    return x


@triton.jit
def saturate_int8(x):
    """float32 to int8: rounded half to even, saturated to [-128, 127]; NaN gives -128."""
    x = tl.where(x == x, x, -128.0)
    x = tl.where(x < -128.0, -128.0, tl.where(x > 127.0, 127.0, x))
    # 1.5 * 2^23 leaves no room for a fraction: the sum is rounded to a whole number, half to even.
    return ((x + 12582912.0) - 12582912.0).to(tl.int8)
