"""INT8 convolution: what it refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import cvperf
from cvperf.ops import PackedConv2dInt8, conv2d_int8, pack_conv2d_int8

X, W = torch.zeros(1, 4, 6, 6, dtype=torch.uint8), torch.zeros(6, 4, 3, 3, dtype=torch.int8)
P = PackedConv2dInt8(pack_conv2d_int8(W).data, (6, 4, 3, 3), 1)
HUGE = torch.zeros(1, 7400, 3, 3, dtype=torch.int8)
INT32 = {"out_dtype": torch.int32}
FLOAT = {"out_dtype": torch.float32}


@pytest.mark.parametrize(
    ("image", "weight", "options", "message"),
    [
        (X.float(), W, {}, r"input must be input\[N, C, H, W\] of one of int8, uint8; got float32"),
        (X[0], W, {}, r"input must be input\[N, C, H, W\], got uint8\[4, 6, 6\]"),
        (X, W.float(), {}, r"weight must be .* of one of int8; got float32"),
        (X, W[0], {}, r"weight must be .*, got int8\[4, 3, 3\]"),
        (X, W[:0], {}, "weight must have no empty dimension"),
        (X, W, {"groups": 4}, "groups must be at least 1 and divide the filters"),
        (X, P, {"groups": 2}, "weight was packed for 1 groups"),
        (X, PackedConv2dInt8(P.data[1:], P.shape, 1), {}, r"weight.data must be uint8\[\d+\]"),
        (X, PackedConv2dInt8(P.data.int(), P.shape, 1), {}, "weight.data must be uint8.*got int32"),
        (X[:, :3], W, {}, "input must have 4 channels"),
        (X, W, {"dilation": 4}, "the kernel reaches over 9 pixels"),
        (X, W, {"stride": 0}, "stride must be at least 1"),
        (X, W, {"padding": -1}, "padding must be at least 0"),
        (HUGE.view(torch.uint8), HUGE, {"padding": 1}, "66600 numbers a filter: above 65793"),
        (X, W, {"activation": "swish"}, "activation must be None or one of"),
        (X, W, {"out_dtype": torch.float64}, "out_dtype must be one of int8, uint8, int32"),
        (X, W, INT32 | {"scale_input": 0.5}, "do not apply to out_dtype=torch.int32"),
        (X, W, INT32 | {"activation": "relu"}, "do not apply to out_dtype=torch.int32"),
        (X, W, INT32 | {"bias": torch.zeros(6)}, r"bias must be bias\[O\] .* of one of int32"),
        (X, W, {"bias": torch.zeros(5)}, r"bias must have one number a filter, O = 6"),
        (X, W, {"zero_point_input": 256}, "zero_point_input must be a value of torch.uint8"),
        (X, W, {"zero_point_input": -1}, "zero_point_input must be a value of torch.uint8"),
        (X, W, FLOAT | {"scale_output": 0.5}, "scale_output .* do not apply"),
        (X, W, {"zero_point_output": 1}, "zero_point_output do not apply"),
        (X, W, {"scale_output": 0.0}, "scale_output must be positive and finite"),
        (X, W, {"scale_input": float("nan")}, "scale_input must be positive and finite"),
        (X, W, {"scale_output": 1.0, "zero_point_output": 300}, "zero_point_output must be"),
        (X, W, {"scale_weight": torch.ones(5)}, r"scale_weight must be .* O = 6"),
        (X, W, {"scale_weight": torch.ones(6).double()}, "scale_weight must be .* float32; got"),
        (X, W, {"residual": torch.zeros(1, 6, 3, 3)}, "residual must have the output's shape"),
        (X, W, {"residual": X, "scale_output": 1.0}, "residual must have the output's shape"),
        (X, W, {"residual": X}, "residual must be residual, as the output of one of float32"),
        (X, W, {"scale_residual": 1.0}, "need an int8 or uint8 residual; it is None"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(
    image: Tensor, weight: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(cvperf.ArgumentError, match=message):
        conv2d_int8(image, weight, **options)


@pytest.mark.parametrize(
    ("image", "weight", "options", "message"),
    [
        ([[1]], W, {}, "input must be a torch.Tensor"),
        (X, [[1]], {}, "weight must be a torch.Tensor .* or a PackedConv2dInt8"),
        (X, W, {"groups": 1.0}, "groups must be an int"),
        (X, W, {"stride": "2"}, "stride must be an int or two"),
        (X, W, {"out_dtype": "int8"}, "out_dtype must be a torch.dtype or None"),
        (X, W, {"scale_input": True}, "scale_input must be a number"),
        (X, W, {"zero_point_input": 1.5}, "zero_point_input must be an int"),
        (X, W, {"bias": 1.0}, "bias must be a torch.Tensor"),
        (X, W, {"residual": 1.0}, "residual must be a torch.Tensor"),
    ],
)
def test_wrong_types_are_named(
    image: Any, weight: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        conv2d_int8(image, weight, **options)
