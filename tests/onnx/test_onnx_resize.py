"""``Resize`` and ``Upsample`` in all their variants, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch.nn.functional as F

from cvperf.onnx import from_onnx
from tests.onnx.models import Array, Case, case, check, floats, integers, model_of, restart

restart()

IMAGE = floats(2, 3, 5, 7)


def scales(*values: float) -> Array:
    return np.array(values, np.float32)


UP, ODD, DOWN = scales(1, 1, 2, 2), scales(1, 1, 1.6, 2.3), scales(1, 1, 0.6, 0.5)
NEAREST = [
    case(
        "Resize", IMAGE, constants=[None, factor], coordinate_transformation_mode=c, nearest_mode=n
    )
    for factor in (UP, ODD, DOWN, scales(1, 1, 3, 4))
    for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
]
SMOOTH = [
    case("Resize", IMAGE, constants=[None, factor], mode=mode, coordinate_transformation_mode=c)
    for mode in ("linear", "cubic")
    for factor in (UP, ODD, DOWN)
    for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
]
SIZED = [
    case("Resize", IMAGE, constants=[None, None, integers(2, 3, *size)], mode=mode, **options)
    for mode in ("nearest", "linear", "cubic")
    for size in ((10, 14), (4, 9), (1, 1))
    for options in ({}, {"coordinate_transformation_mode": "align_corners"})
]
OTHER = [
    *(
        case(
            "Resize", IMAGE, constants=[None, ODD], mode="cubic", cubic_coeff_a=a, exclude_outside=e
        )
        for a, e in ((-0.5, 0), (-0.75, 1))
    ),
    case("Resize", IMAGE, constants=[None, scales(2, 1.5)], axes=[2, 3], mode="linear", opset=18),
    case("Resize", IMAGE, constants=[None, None, integers(9)], axes=[3], mode="linear", opset=18),
    *(
        case(
            "Resize",
            IMAGE,
            constants=[None, None, integers(8, 8)],
            axes=[2, 3],
            mode="linear",
            opset=18,
            keep_aspect_ratio_policy=policy,
        )
        for policy in ("not_larger", "not_smaller")
    ),
    *(
        case("Resize", IMAGE, constants=[None, factor], mode=mode, antialias=1, opset=18)
        for mode in ("linear", "cubic")
        for factor in (DOWN, UP)
    ),
    case(
        "Resize",
        IMAGE,
        constants=[scales(0, 0, 0.1, -0.2, 1, 1, 0.8, 1.3), None, integers(2, 3, 4, 6)],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    ),
    *(
        case("Resize", IMAGE, constants=[f], mode=m, opset=10)
        for f in (UP, ODD, DOWN)
        for m in ("nearest", "linear")
    ),
    *(
        case("Upsample", IMAGE, constants=[f], mode=m, opset=9)
        for f in (UP, ODD)
        for m in ("nearest", "linear")
    ),
    *(
        case("Upsample", IMAGE, scales=[1.0, 1.0, 2.0, 3.0], mode=m, opset=7)
        for m in ("nearest", "linear")
    ),
    case("Resize", floats(2, 3, 6), constants=[None, scales(1, 1, 2)], mode="linear"),
    case("Resize", floats(2, 3, 6), constants=[None, scales(1, 1, 2)]),
    # 10 * 0.7 is 7 in float32, less in double precision.
    case("Resize", floats(1, 2, 10, 20), constants=[None, scales(1, 1, 0.7, 0.7)], mode="linear"),
    case("Resize", floats(1, 2, 10, 20), constants=[None, scales(1, 1, 0.7, 0.7)]),
    case("Resize", floats(4, 6), constants=[None, scales(2, 1.5)], mode="linear"),
    case("Resize", floats(1, 1, 3, 4, 5), constants=[None, scales(1, 1, 2, 2, 2)], mode="linear"),
]


@pytest.mark.parametrize("case", NEAREST, ids=lambda case: f"{case}-{case.constants[1][2:]}")
def test_nearest(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: f"{case}-{case.constants[1][2:]}")
def test_linear_and_cubic(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", SIZED, ids=str)
def test_given_sizes(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", OTHER, ids=str)
def test_other_variants(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    "options",
    [
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {},
        {"mode": "linear"},
        {"mode": "cubic"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ],
)
def test_what_torch_has_becomes_torchs_interpolation(options: dict[str, str]) -> None:
    module = from_onnx(model_of(case("Resize", IMAGE, constants=[None, UP], **options)))
    called = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert called == [F.interpolate]


def test_sizes_of_batch_and_channels_that_the_file_fixes_are_kept() -> None:
    sized = case("Resize", IMAGE, constants=[None, None, integers(2, 3, 10, 14)], mode="linear")
    module = from_onnx(model_of(sized, free=False))
    assert [n.target for n in module.graph.nodes if n.op == "call_function"] == [F.interpolate]
    check(sized, free=False)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("free", [False, True])
def test_channels_can_be_resized_too(mode: str, free: bool) -> None:
    """TensorFlow's files have channels last."""
    check(case("Resize", IMAGE, constants=[None, None, integers(2, 6, 10, 7)], mode=mode), free)
