"""Operators that move, take and put elements, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.onnx.models import Case, case, check, floats, integers, number, positive, restart, whole

restart()

X, IMAGE = floats(2, 3, 4), floats(2, 4, 6, 8)
FAR = 2**63 - 1

SHAPES = [
    *(
        case("Reshape", X, constants=[integers(*shape)], opset=o)
        for shape in ((6, 4), (0, -1), (-1,), (2, 0, 2, 2), (1, 2, 3, 4))
        for o in (7, 13)
    ),
    *(case("Flatten", X, axis=axis, opset=11) for axis in (0, 1, 2, 3, -1)),
    case("Flatten", floats(5), axis=1),
    *(case("Squeeze", floats(1, 3, 1), opset=7, **axes) for axes in ({}, {"axes": [0]})),
    *(case("Squeeze", floats(1, 3, 1), constants=[integers(*a)]) for a in ((0, 2), (-1,))),
    *(case("Unsqueeze", X, axes=axes, opset=11) for axes in ([0], [1, 3], [-1])),
    *(case("Unsqueeze", X, constants=[integers(*axes)]) for axes in ((0,), (4, 1), (-1, 0))),
    *(case("Expand", floats(3, 1), constants=[integers(*s)]) for s in ((2, 3, 4), (1,), (3, 1))),
    case("Tile", X, constants=[integers(1, 2, 3)]),
    case("Transpose", X),
    case("Transpose", X, perm=[1, 2, 0]),
    case("Concat", X, X, axis=1),
    case("Concat", X, axis=-1, constants=[floats(2, 3, 1)]),
    *(
        case("Split", floats(2, 6), axis=1, outputs=n, opset=o)
        for n, o in ((2, 7), (3, 11), (2, 13))
    ),
    case("Split", floats(2, 6), axis=1, split=[1, 5], outputs=2, opset=11),
    case("Split", floats(2, 6), constants=[integers(1, 5)], axis=-1, outputs=2),
    case("Split", floats(2, 7), axis=1, num_outputs=3, outputs=3, opset=18),
    case("Slice", X, starts=[1], ends=[3], axes=[2], opset=9),
    case("Slice", X, starts=[0, 1], ends=[1, -1], opset=7),
    *(
        case("Slice", X, constants=[integers(*values) for values in bounds])
        for bounds in (
            ((1,), (FAR,), (1,)),
            ((0, -2), (2, FAR), (1, -1)),
            ((0,), (FAR,), (2,), (2,)),
            ((-1,), (-FAR,), (2,), (-1,)),
            ((3, 0), (0, 1), (2, 0), (-2, 1)),
            ((9,), (12,), (1,)),
        )
    ),
    case("DepthToSpace", IMAGE, blocksize=2),
    case("DepthToSpace", IMAGE, blocksize=2, mode="CRD"),
    case("SpaceToDepth", IMAGE, blocksize=2),
    *(case("Trilu", floats(4, 5), constants=[number(1, np.int64)], upper=u) for u in (0, 1)),
    case("Trilu", floats(2, 4, 5)),
    case("Shape", X),
    case("Shape", X, start=1, end=-1),
    case("Size", X),
    case("EyeLike", floats(3, 4), k=1),
    case("EyeLike", floats(3, 4), dtype=7),
]
PADS = [
    case("Pad", IMAGE, pads=[0, 0, 1, 2, 0, 0, 3, 1], opset=7),
    case("Pad", IMAGE, pads=[0, 0, 1, 2, 0, 0, 3, 1], value=1.5, opset=7),
    *(
        case("Pad", IMAGE, constants=[integers(*pads)], mode=mode, opset=o)
        for pads in ((0, 0, 1, 2, 0, 0, 3, 1), (1, 1, 0, 0, 1, 2, 0, 0), (0, 0, 2, 2, 0, 0, 2, 2))
        for mode, o in (("constant", 13), ("reflect", 13), ("edge", 11), ("wrap", 19))
        if mode == "edge" or mode == "constant" or max(pads[:1] + pads[4:5]) == 0
    ),
    case("Pad", IMAGE, constants=[integers(0, 0, -1, 2, 0, 0, -2, 0)]),
    case("Pad", IMAGE, constants=[integers(0, 0, 1, 1, 0, 0, 1, 1), number(2.5)]),
    case("Pad", IMAGE, constants=[integers(1, 2, 3, 0), None, integers(3, -2)], opset=18),
    case("Pad", floats(5), constants=[integers(2, 3)], mode="reflect"),
]
INDEXED = [
    *(
        case("Gather", X, constants=[indices], axis=axis)
        for indices in (number(1, np.int64), integers(0, -1), whole(2, 2, low=0, high=2))
        for axis in (0, 1, -1)
    ),
    case("Gather", X, number(-1, np.int64), axis=1),
    case("Gather", floats(9, 4), whole(2, 5, low=0, high=9, dtype=np.int32)),
    case("GatherElements", X, constants=[whole(2, 3, 2, low=-4, high=4)], axis=2),
    case("GatherND", X, constants=[whole(5, 2, low=0, high=2)]),
    case("GatherND", X, whole(5, 3, low=0, high=2)),
    case("GatherND", X, whole(2, 5, 1, low=0, high=3), batch_dims=1),
    *(
        case(
            "ScatterElements", X, integers(0, 2, 1).reshape(1, 3, 1), floats(1, 3, 1), axis=1, **how
        )
        for how in ({}, {"reduction": "add"}, {"reduction": "mul"})
    ),
    *(
        case(
            "ScatterElements",
            X,
            constants=[integers(0, 1, 0).reshape(1, 1, 3), floats(1, 1, 3)],
            axis=2,
            opset=18,
            reduction=how,
        )
        for how in ("max", "min", "add")
    ),
    *(
        case("ScatterND", X, whole(2, 2, low=0, high=2)[:1], floats(1, 4), opset=o, **how)
        for how, o in (
            ({}, 11),
            ({"reduction": "add"}, 16),
            ({"reduction": "mul"}, 16),
            ({"reduction": "max"}, 18),
        )
    ),
    case("ScatterND", floats(4), integers(1, 1, 3)[:, None], floats(3), reduction="add"),
    case("OneHot", integers(0, 2, -1, 9), constants=[integers(4), floats(2)]),
    case("OneHot", whole(2, 3, low=0, high=4), constants=[integers(4), floats(2)], axis=1),
    case("NonZero", whole(3, 4, low=0, high=2)),
    case("Compress", X, constants=[np.array([True, False, True])], axis=1),
    case("Compress", X, constants=[np.array([False, True, True])]),
    case("ReverseSequence", floats(4, 3, 2), constants=[integers(4, 2, 1)]),
    case("ReverseSequence", floats(3, 4), constants=[integers(4, 2, 1)], batch_axis=0, time_axis=1),
    case("ConstantOfShape", constants=[integers(2, 3)]),
    case("Range", constants=[number(1, np.int64), number(9, np.int64), number(3, np.int64)]),
    case("Range", constants=[number(1.0), number(2.0), number(0.25)]),
    case("Range", number(0, np.int64), number(7, np.int64), number(2, np.int64)),
    case("Expand", positive(3, 1), integers(2, 3, 4)),
    case("Reshape", X, integers(4, 6)),
    case("Tile", X, integers(2, 1, 1)),
]


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_shapes(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", PADS, ids=str)
def test_pads(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", INDEXED, ids=str)
def test_indices(case: Case) -> None:
    check(case)
