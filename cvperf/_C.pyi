"""What csrc binds: addresses, sizes and strides in, nothing checked."""

from collections.abc import Sequence
from enum import Enum

from torch import Tensor

class DType(Enum):
    f16 = 0
    bf16 = 1
    f32 = 2
    f64 = 3
    i8 = 4
    u8 = 5
    i32 = 6

class Activation(Enum):
    none = 0
    relu = 1
    relu6 = 2
    silu = 3
    hardswish = 4
    sigmoid = 5
    leaky_relu = 6

class Algorithm(Enum):
    automatic = 0
    precise = 1
    direct = 2
    winograd2 = 3
    winograd4 = 4

class Interpolation(Enum):
    nearest = 0
    bilinear = 1

compiler: str
"""What built this module, as "gcc 12.2.0"."""

def isa() -> str: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def nms(
    boxes_ptr: int,
    scores_ptr: int,
    classes_ptr: int,
    dtype: DType,
    n: int,
    iou_threshold: float,
    keep_ptr: int,
    prune: bool,
    num_threads: int,
) -> int: ...
def nms_padded(
    boxes_ptr: int,
    scores_ptr: int,
    dtype: DType,
    batch: int,
    n: int,
    iou_threshold: float,
    max_output: int,
    indices_ptr: int,
    counts_ptr: int,
    num_threads: int,
) -> None: ...
def soft_nms(
    boxes_ptr: int,
    scores_ptr: int,
    dtype: DType,
    n: int,
    gaussian: bool,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    limit: int,
    indices_ptr: int,
    selected_ptr: int,
) -> int: ...
def roi_align(
    dtype: DType,
    inputs: Sequence[tuple[int, int, int, float]],
    boxes: int,
    level_of_box: int,
    output: int,
    count: int,
    sizes: tuple[int, int, int, int],
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
    num_threads: int,
) -> None: ...
def roi_align_backward(
    dtype: DType,
    grad: int,
    boxes: int,
    level_of_box: int,
    grad_inputs: Sequence[tuple[int, int, int, float]],
    count: int,
    sizes: tuple[int, int, int, int],
    sampling_ratio: int,
    aligned: bool,
    channels_last: bool,
    num_threads: int,
) -> None: ...
def roi_pool(
    dtype: DType,
    input: int,
    boxes: int,
    output: int,
    argmax: int,
    count: int,
    sizes: tuple[int, int, int, int, int, int],
    spatial_scale: float,
    channels_last: bool,
    num_threads: int,
) -> None: ...
def roi_pool_backward(
    dtype: DType,
    grad: int,
    boxes: int,
    argmax: int,
    grad_input: int,
    count: int,
    sizes: tuple[int, int, int, int, int, int],
    channels_last: bool,
    num_threads: int,
) -> None: ...
def paste_masks(
    masks_ptr: int,
    dtype: DType,
    boxes_ptr: int,
    box_dtype: DType,
    count: int,
    side: int,
    padding: int,
    height: int,
    width: int,
    threshold: float | None,
    out_ptr: int,
    num_threads: int,
) -> None: ...
def bias_activation(
    dtype: DType,
    x_ptr: int,
    bias_ptr: int,
    residual_ptr: int,
    view: tuple[int, int, int],
    activation: Activation,
    out_ptr: int,
    num_threads: int,
) -> None: ...
def quantize(
    dtype: DType,
    x_ptr: int,
    scale_ptr: int,
    scale_per_channel: bool,
    zero_point_ptr: int,
    zero_point_per_channel: bool,
    view: tuple[int, int, int],
    out_dtype: DType,
    out_ptr: int,
    num_threads: int,
) -> None: ...
def dequantize(
    dtype: DType,
    x_ptr: int,
    offset_ptr: int,
    factor_ptr: int,
    view: tuple[int, int, int],
    out_dtype: DType,
    out_ptr: int,
    num_threads: int,
) -> None: ...
def normalize_image(
    x_ptr: int,
    to_planes: bool,
    sizes: tuple[int, int, int],
    offset_ptr: int,
    factor_ptr: int,
    out_dtype: DType,
    out_ptr: int,
    num_threads: int,
) -> None: ...

class Call:
    def __call__(self, read: Sequence[int], output: int, num_threads: int) -> None: ...

_Place = tuple[int, int]

class Plan:
    def __init__(self) -> None: ...
    def add(self, call: Call, read: Sequence[_Place], output: _Place) -> None: ...
    def __len__(self) -> int: ...
    def run(self, first: int, last: int, bases: Sequence[int], num_threads: int) -> None: ...
    def seconds(
        self, first: int, last: int, bases: Sequence[int], num_threads: int
    ) -> list[float]: ...

class Replays:
    def __init__(self) -> None: ...
    def again(self, *arguments: object) -> Tensor | None: ...
    def remember(
        self,
        arguments: tuple[object, ...],
        call: Call,
        read: tuple[Tensor | None, ...],
        output: Tensor,
    ) -> None: ...

def ordinary(*arguments: object) -> bool: ...
def missing_from_torch() -> str: ...

class Conv2dInputGradCall(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        groups: int,
        channels_last: bool,
        weight_channels_last: bool,
        dtype: DType,
    ) -> None: ...

class Conv2dCall(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        groups: int,
        channels_last: bool,
        weight_channels_last: bool,
        dtype: DType,
        activation: Activation,
        algorithm: Algorithm,
    ) -> None: ...

def conv2d_packed_bytes(
    sizes: Sequence[int],
    window: Sequence[int],
    groups: int,
    weight_channels_last: bool,
    dtype: DType,
    algorithm: Algorithm,
) -> int: ...
def conv2d_pack(
    weight: int,
    packed: int,
    sizes: Sequence[int],
    window: Sequence[int],
    groups: int,
    weight_channels_last: bool,
    dtype: DType,
    algorithm: Algorithm,
    num_threads: int,
) -> None: ...
def conv2d_algorithm(
    sizes: Sequence[int],
    window: Sequence[int],
    groups: int,
    channels_last: bool,
    dtype: DType,
    wanted: Algorithm,
) -> Algorithm: ...
def conv2d_input_grad(
    grad_output: int,
    weight: int,
    grad_input: int,
    sizes: Sequence[int],
    window: Sequence[int],
    groups: int,
    channels_last: bool,
    weight_channels_last: bool,
    dtype: DType,
    num_threads: int,
) -> None: ...
def conv2d_weight_grad(
    grad_output: int,
    input: int,
    grad_weight: int,
    sizes: Sequence[int],
    window: Sequence[int],
    groups: int,
    channels_last: bool,
    weight_channels_last: bool,
    dtype: DType,
    num_threads: int,
) -> None: ...
def packed_int8_bytes(k: int, n: int) -> int: ...
def pack_int8(
    b_ptr: int,
    k: int,
    n: int,
    stride_k: int,
    stride_n: int,
    out_ptr: int,
    num_threads: int,
) -> None: ...

class Int8GemmCall(Call):
    def __init__(
        self,
        a_dtype: DType,
        m: int,
        k: int,
        n: int,
        a_stride: int,
        scale_a_per_row: bool,
        scale_b_per_column: bool,
        zero_a_per_row: bool,
        activation: Activation,
        out_dtype: DType,
    ) -> None: ...

class Conv2dInt8Call(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        groups: int,
        dtype: DType,
        scale_input: float,
        zero_point: int,
        scale_per_channel: bool,
        activation: Activation,
        residual_scale: float,
        residual_zero: int,
        out_inverse: float,
        out_zero: int,
        out_dtype: DType,
    ) -> None: ...

class PackBitsCall(Call):
    def __init__(self, dtype: DType, pixels: int, channels: int) -> None: ...

class Conv2dBinaryCall(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        activation: Activation,
        out_dtype: DType,
    ) -> None: ...

class MaxPool2dCall(Call):
    def __init__(self, sizes: Sequence[int], window: Sequence[int], dtype: DType) -> None: ...

class AvgPool2dCall(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        count_include_pad: bool,
        divisor_override: int,
        dtype: DType,
    ) -> None: ...

class AdaptiveAvgPool2dCall(Call):
    def __init__(self, sizes: Sequence[int], dtype: DType) -> None: ...

class AvgPool2dInt8Call(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        window: Sequence[int],
        count_include_pad: bool,
        divisor_override: int,
        dtype: DType,
        scale: float,
        zero_point: int,
        out_inverse: float,
        out_zero: int,
        out_dtype: DType,
    ) -> None: ...

class AdaptiveAvgPool2dInt8Call(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        dtype: DType,
        scale: float,
        zero_point: int,
        out_inverse: float,
        out_zero: int,
        out_dtype: DType,
    ) -> None: ...

class InterpolateCall(Call):
    def __init__(
        self,
        sizes: Sequence[int],
        mode: Interpolation,
        align_corners: bool,
        scale_h: float,
        scale_w: float,
        dtype: DType,
    ) -> None: ...

class QuantizeCall(Call):
    def __init__(
        self, dtype: DType, count: int, scale: float, zero_point: int, out_dtype: DType
    ) -> None: ...

class DequantizeCall(Call):
    def __init__(
        self, dtype: DType, count: int, scale: float, zero_point: int, out_dtype: DType
    ) -> None: ...

class Arithmetic(Enum):
    add = 0
    subtract = 1
    multiply = 2
    divide = 3
    maximum = 4
    minimum = 5
    reverse_subtract = 6
    reverse_divide = 7

class Unary(Enum):
    relu = 0
    relu6 = 1
    silu = 2
    hardswish = 3
    hardsigmoid = 4
    sigmoid = 5
    leaky_relu = 6
    tanh = 7
    gelu = 8
    gelu_tanh = 9
    elu = 10
    exp = 11
    sqrt = 12
    rsqrt = 13
    reciprocal = 14
    neg = 15
    abs = 16
    clamp = 17
    softplus = 18
    mish = 19

class BinaryCall(Call):
    def __init__(
        self,
        kind: Arithmetic,
        shape: Sequence[int],
        a_strides: Sequence[int],
        b_strides: Sequence[int],
        dtype: DType,
        activation: Activation,
    ) -> None: ...

class ScalarCall(Call):
    def __init__(
        self,
        kind: Arithmetic,
        count: int,
        constant: float,
        dtype: DType,
        activation: Activation,
    ) -> None: ...

class UnaryCall(Call):
    def __init__(
        self, kind: Unary, count: int, dtype: DType, first: float = 0, second: float = 0
    ) -> None: ...

class SoftmaxCall(Call):
    def __init__(
        self, outer: int, count: int, inner: int, dtype: DType, logarithm: bool
    ) -> None: ...

class ConcatCall(Call):
    def __init__(self, outer: int, parts: Sequence[int], element_bytes: int) -> None: ...

class SliceCall(Call):
    def __init__(
        self, outer: int, whole: int, first: int, count: int, element_bytes: int
    ) -> None: ...

class CopyCall(Call):
    def __init__(
        self,
        shape: Sequence[int],
        read_strides: Sequence[int],
        write_strides: Sequence[int],
        read_dtype: DType,
        write_dtype: DType,
        first: int = 0,
    ) -> None: ...

def peak_arithmetic(dtype: DType, rounds: int, num_threads: int) -> tuple[float, float, str]: ...
def peak_copy(
    from_ptr: int, to_ptr: int, bytes: int, rounds: int, streaming: bool, num_threads: int
) -> None: ...
def place_threads(processors: Sequence[Sequence[int]]) -> None: ...

class Block:
    def __init__(self, bytes: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def keep_free(bytes: int) -> None: ...
def pack_arguments(arguments: tuple[object, ...]) -> bytes: ...
def launch_kernel(
    launcher: int,
    function: int,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared_bytes: int,
    stream: int,
    arguments: tuple[object, ...],
) -> int: ...
