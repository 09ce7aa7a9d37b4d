"""Box suppression and region crops against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.onnx.models import Array, Case, case, check, floats, number, positive, restart, whole

restart()


def boxes(images: int, count: int) -> Array:
    corner = positive(images, count, 2) * 40
    return np.concatenate((corner, corner + positive(images, count, 2) * 20), -1)


BOXES, SCORES = boxes(2, 60), positive(2, 3, 60)
TIED = np.round(SCORES * 4) / 4
MIRRORED = BOXES[..., [2, 1, 0, 3]]
SUPPRESSED = [
    case(
        "NonMaxSuppression", b, s, constants=[number(most, np.int64), *(number(x) for x in limits)]
    )
    for b, s in ((BOXES, SCORES), (MIRRORED, SCORES), (BOXES, TIED))
    for most in (0, 5, 100)
    for limits in ((), (0.3,), (0.5, 0.6), (0.0, 2.0))
] + [
    case(
        "NonMaxSuppression",
        BOXES,
        SCORES,
        constants=[number(20, np.int64), number(0.4)],
        center_point_box=1,
        opset=11,
    ),
    case("NonMaxSuppression", BOXES, SCORES),
]
ROWS = boxes(1, 7)[0]
FEATURES, IMAGES = floats(2, 4, 30, 30), whole(7, low=0, high=2)
CROPPED = [
    case("RoiAlign", FEATURES, ROWS, IMAGES, output_height=4, output_width=5, opset=o, **options)
    for o, options in (
        (10, {"sampling_ratio": 2, "spatial_scale": 0.5}),
        (16, {"sampling_ratio": 2, "spatial_scale": 0.5}),
        (16, {"coordinate_transformation_mode": "output_half_pixel", "spatial_scale": 0.5}),
        (16, {"spatial_scale": 0.5}),
    )
]


@pytest.mark.parametrize("case", SUPPRESSED, ids=str)
def test_suppression(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", CROPPED, ids=str)
def test_crops(case: Case) -> None:
    check(case)
