"""torch's dtypes as the native module names them."""

import torch  # before _C, so that both share torch's OpenMP runtime

from cvperf import _C

DTYPES = {
    torch.float16: _C.DType.f16,
    torch.bfloat16: _C.DType.bf16,
    torch.float32: _C.DType.f32,
    torch.float64: _C.DType.f64,
    torch.int8: _C.DType.i8,
    torch.uint8: _C.DType.u8,
    torch.int32: _C.DType.i32,
}
